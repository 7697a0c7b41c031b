"""Data sets that must agree: what their labels mean is compared before anything is learned or scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any

from mmmim.utils import InputError

#: Classes that a message names.
SHOWN = 5


@dataclass(frozen=True)
class LabelSpace:
    """What the labels of a data set mean.

    Attributes:
        name: Name of the data set, for messages.
        classes: Names of labels 0 to K - 1; None where the data set names none.
        folders: Names of the folders of the classes, where labels number folders; None elsewhere.
        ignored: The label that does not count; None where there is none, or where it is not known.
        reduced: Whether label 0 of the files is ignored and the others move down by one; None where it is not known.
        note: Why scores are not comparable with published ones, from ``note`` in the metainfo; None elsewhere.
    """

    name: str
    classes: tuple[str, ...] | None
    folders: tuple[str, ...] | None = None
    ignored: int | None = None
    reduced: bool | None = None
    note: str | None = None


def leaves(dataset: Any) -> Iterator[Any]:
    """The data sets inside wrappers such as concatenations, repetitions, subsets and seeded ones."""
    # Not getattr: wrappers may pass the attributes of what they wrap on.
    own = getattr(dataset, '__dict__', {})
    inner = [each for each in (own.get('datasets') or [own.get('dataset')]) if each is not None]
    if not inner:
        yield dataset
    for each in inner:
        yield from leaves(each)


def label_spaces(name: str, dataset: Any) -> list[LabelSpace]:
    """What the labels of a data set mean, for every data set inside it.

    Args:
        name: Key of the data set in the config.
        dataset: A data set or a wrapper of data sets.

    Returns:
        One or more, each named by the key and by where its files lie.
    """
    spaces = []
    for leaf in leaves(dataset):
        if hasattr(leaf, 'full_init'):  # names may come from folders
            leaf.full_init()
        metainfo = getattr(leaf, 'metainfo', None) or {}
        place = getattr(leaf, 'data_root', None) or getattr(leaf, 'img_prefix', None)
        numbered = getattr(leaf, 'folder_to_idx', None)
        reduced = metainfo.get('reduce_zero_label')
        spaces.append(
            LabelSpace(
                f'{name} ({place})' if isinstance(place, str) and place else name,
                _names(metainfo.get('classes')),
                tuple(sorted(numbered, key=numbered.__getitem__)) if isinstance(numbered, Mapping) else None,
                getattr(leaf, 'ignore_index', None),
                None if reduced is None else bool(reduced),
                metainfo.get('note'),
            )
        )
    return spaces


def stored_space(name: str, metainfo: Any) -> LabelSpace:
    """What the labels of a training meant, as its checkpoint has it (``meta.dataset_meta``, plain data)."""
    metainfo = metainfo if isinstance(metainfo, Mapping) else {}
    reduced = metainfo.get('reduce_zero_label')
    return LabelSpace(name, _names(metainfo.get('classes')), reduced=reduced if isinstance(reduced, bool) else None)


def _names(classes: Any) -> tuple[str, ...] | None:
    if not isinstance(classes, Sequence) or isinstance(classes, str) or not len(classes):
        return None
    return tuple(map(str, classes))


def check_agreement(spaces: Sequence[LabelSpace]) -> list[str]:
    """Compare what labels mean in data sets that are learned from and scored together.

    Args:
        spaces: What the labels of each data set mean; two or more.

    Returns:
        Sentences about what cannot be compared.

    Raises:
        InputError: Two of them have different classes, in name, number or order, or ignore different labels.
    """
    named = [space for space in spaces if space.classes is not None]
    for one, other in pairwise(named):
        _compare(one, other)
    for one, other in pairwise([space for space in spaces if space.ignored is not None]):
        if one.ignored != other.ignored:
            raise InputError(
                f'{one.name} ignores label {one.ignored} and {other.name} label {other.ignored}: set ignore_index of '
                'both to the same.'
            )
    for one, other in pairwise([space for space in spaces if space.reduced is not None]):
        if one.reduced != other.reduced:
            first, second = (one, other) if one.reduced else (other, one)
            raise InputError(
                f'{first.name} has reduce_zero_label=True and {second.name} has not, so the labels of one are those of '
                'the other less 1: set reduce_zero_label of both to the same.'
            )
    return [
        f'{space.name} names no classes, so whether its labels are those of {named[0].name} cannot be checked: set '
        'metainfo=dict(classes=[...]) of the data set.'
        for space in spaces
        if named and space.classes is None
    ]


def _compare(one: LabelSpace, other: LabelSpace) -> None:
    remedy = 'Labels are numbered by class, so those of one would be scored as others of the other: give both the same '
    for what, first, second in (('classes', one.classes, other.classes), ('class folders', one.folders, other.folders)):
        if first is None or second is None or first == second:
            continue
        only = [
            f'{some(sorted(set(mine) - set(theirs)))} only in the {which}'
            for which, mine, theirs in (('first', first, second), ('second', second, first))
            if set(mine) - set(theirs)
        ]
        if not only:
            pairs = zip_longest(first, second)
            at, (a, b) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
            only = [f'class {at} is {a!r} in the first and {b!r} in the second']
        raise InputError(
            f'{one.name} and {other.name} have different {what} ({len(first)} and {len(second)}): {", ".join(only)}. '
            f'{remedy}class folders, or the same metainfo.classes, in the same order.'
        )


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''
    return ', '.join(repr(name) for name in names[:SHOWN]) + more


def check_num_classes(space: LabelSpace, heads: Mapping[str, int]) -> list[str]:
    """Compare the classes of a data set with those that a model tells apart.

    Args:
        space: What the labels of the data set mean.
        heads: Number of classes by the config key that sets it.

    Returns:
        Sentences about heads with classes that no label has.

    Raises:
        InputError: A head has fewer classes than the data set.
    """
    warnings = []
    for key, number in heads.items():
        if space.classes is None or number == len(space.classes):
            continue
        words = f'{key} is {number} and {space.name} has {len(space.classes)} classes: set {key}={len(space.classes)}'
        if number < len(space.classes):
            raise InputError(f'{words}.')
        warnings.append(f'{words}, or the head also learns classes that no label has.')
    return warnings
