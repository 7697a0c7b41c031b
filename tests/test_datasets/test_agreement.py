"""Data sets that must agree, and labels that scores leave out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from torch.utils.data import Subset

from mmmim.datasets import SeededDataset
from mmmim.datasets.label_counts import LabelCounts, count_labels
from mmmim.datasets.label_spaces import LabelSpace, check_agreement, check_num_classes, label_spaces, stored_space
from mmmim.utils import InputError


class Named(BaseDataset):
    """A data set of no images, of some classes."""

    def __init__(self, classes, root='', **attributes):
        super().__init__(metainfo={'classes': classes} if classes else {}, data_root=root, lazy_init=True)
        self.data_bytes, self._fully_initialized = np.zeros(0, np.uint8), True
        vars(self).update(attributes)

    def __len__(self):
        return 4


def compare(one, other):
    return check_agreement([*label_spaces('fit_dataloader.dataset', one), *label_spaces('test', other)])


@pytest.mark.parametrize(
    ('first', 'second', 'message'),
    [
        (['a', 'b', 'c'], ['a', 'c'], r"classes \(3 and 2\): 'b' only in the first"),
        (['a', 'c'], ['a', 'b', 'c'], r"classes \(2 and 3\): 'b' only in the second"),
        (['a', 'b'], ['b', 'a'], "class 0 is 'a' in the first and 'b' in the second"),
        (['a', 'b'], ['a', 'x'], "'b' only in the first, 'x' only in the second"),
        (['a', 'b'], ['a', 'b', 'b'], r"\(2 and 3\): class 2 is None in the first and 'b' in the second"),
        (list('abcdefgh'), ['z'], "'a', 'b', 'c', 'd', 'e' and 3 more only in the first"),
    ],
)
def test_classes_that_differ_are_named(first, second, message):
    with pytest.raises(InputError, match=message) as error:
        compare(Named(first, 'data/one'), Named(second))
    assert 'fit_dataloader.dataset (data/one) and test have different classes' in str(error.value)
    assert 'in the same order' in str(error.value)
    assert compare(Named(first), Named(tuple(first))) == []


@pytest.mark.parametrize(
    'wrap',
    [
        lambda x: RepeatDataset(x, 2),
        SeededDataset,
        lambda x: Subset(x, [0]),
        lambda x: SeededDataset(ConcatDataset([Named(['a', 'b']), x], ignore_keys='classes')),
        lambda x: Subset(RepeatDataset(x, 2), [0]),
    ],
)
def test_wrapped_data_sets_are_looked_into(wrap):
    assert compare(wrap(Named(['a', 'b'])), Named(['a', 'b'])) == []
    with pytest.raises(InputError, match="'b' only in the first, 'c' only in the second"):
        compare(Named(['a', 'b']), wrap(Named(['a', 'c'])))


def test_the_same_names_of_other_folders_are_refused():
    one, other = (Named(['a', 'b'], folder_to_idx={name: i for i, name in enumerate(names)}) for names in ('ab', 'ac'))
    with pytest.raises(InputError, match=r"different class folders \(2 and 2\): 'b' only in the first, 'c' only in"):
        compare(one, other)


def test_labels_to_ignore_and_to_reduce_are_compared():
    with pytest.raises(InputError, match='ignores label 255 and test label 0: set ignore_index of both'):
        compare(Named(['a'], ignore_index=255), Named(['a'], ignore_index=0))
    sets = [Named(['a']) for _ in range(2)]
    for each, reduced in zip(sets, (False, True), strict=True):
        each._metainfo['reduce_zero_label'] = reduced
    with pytest.raises(InputError, match=r'test has reduce_zero_label=True and fit_dataloader\.dataset has not'):
        compare(*sets)


def test_names_that_are_missing_are_said():
    (sentence,) = compare(Named(['a', 'b']), Named(None))
    assert sentence.startswith('test names no classes, so whether its labels are those of fit_dataloader.dataset')
    assert compare(Named(None), Named(None)) == []


@pytest.mark.parametrize('meta', [None, [], {'classes': 'abc'}, {'classes': 3}, {'classes': []}, {'classes': {'a': 1}}])
def test_stored_classes_that_are_no_names_are_no_classes(meta):
    assert stored_space('a checkpoint', meta).classes is None


def test_heads_have_the_classes_of_the_data():
    space = LabelSpace('train', ('a', 'b', 'c'))
    assert check_num_classes(space, {'model.head.num_classes': 3}) == []
    with pytest.raises(InputError, match=r'model\.head\.num_classes is 2 and train has 3 classes: set model\.head'):
        check_num_classes(space, {'model.head.num_classes': 2})
    (sentence,) = check_num_classes(space, {'model.head.num_classes': 1000})
    assert 'classes that no label has' in sentence


def counted(labels, names='ab', ignored=255, unit='pixel'):
    return LabelCounts(
        LabelSpace('val', tuple(names), ignored=ignored), unit, *count_labels(np.array(labels), len(names), ignored)
    )


def test_what_is_left_out_is_said():
    assert counted([0, 1, 1, 255]).dropped() == []
    (sentence,) = counted([0, 0, 255]).dropped()
    assert sentence.startswith("val: 1 of 2 classes without a single pixel ('b')")
    assert 'ignored one (255)' in sentence
    (sentence,) = counted([0, 0, 2], 'abc', None, 'image').dropped()
    assert sentence.startswith("val: 1 of 3 classes without a single image ('b')")
    assert 'ignored' not in sentence
    assert counted([0, 1, 255, 255]).dropped() == []
    (sentence,) = counted([0, 1, 255, 255, 255]).dropped()
    assert sentence.startswith('val: 60.0% of all pixels are ignored (ignore_index=255)')
    assert counted([0, 0, 255]).dropped(absent=False) == []
    assert counted(np.zeros(0, int)).dropped() == []


@pytest.mark.parametrize('wrong', [2, -1, 254])
def test_labels_outside_the_classes(wrong):
    with pytest.raises(IndexError) as error:
        count_labels(np.array([[0, 1], [wrong, 255]]), 2, 255)
    assert error.value.args == (wrong,)


def test_probes_say_what_they_leave_out():
    from mmmim.features.labelled_images import LabelledImages, dropped_labels

    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    space = [LabelSpace('probe_data.val', ('cat', 'dog'))]
    maps = torch.tensor([0, 0, 0, 2]).view(1, 2, 2).repeat(4, 1, 1)
    one = LabelledImages(images, torch.tensor([0, 1, 0, 1]), torch.where(maps == 2, 1, maps), (0,))
    other = LabelledImages(images, torch.zeros(4, dtype=torch.long), maps, (0,), spaces=space)
    images_of_dog, *one_label, other_label, other_share = dropped_labels((one, other))
    assert images_of_dog.startswith("probe_data.val: 1 of 2 classes without a single image ('dog')")
    assert one_label[0].startswith("The data set: 1 of 2 classes without a single pixel ('label 2')")
    assert one_label[1].startswith('The data set: 75.0% of all pixels are ignored')
    assert other_label.startswith("probe_data.val: 1 of 2 classes without a single pixel ('label 1')")
    assert other_share.startswith('probe_data.val: 75.0%')
    assert dropped_labels((other, replace(one, labels=None, label_maps=None))) == []
