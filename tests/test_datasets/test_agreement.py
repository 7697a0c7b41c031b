"""Data sets that must agree, and labels that scores leave out."""

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from torch.utils.data import Subset

from mmmim.datasets import SeededDataset
from mmmim.datasets.label_counts import LabelCounts, count_labels
from mmmim.datasets.label_spaces import LabelSpace, check_agreement, check_num_classes, label_spaces, stored_space
from mmmim.features.labelled_images import LabelledImages, dropped_labels
from mmmim.utils import InputError


class Named(BaseDataset):
    """A data set of no images, of some classes."""

    def __init__(self, classes, root='', reduced=None, **attributes):
        metainfo = {'classes': classes} if classes else {}
        super().__init__(metainfo=metainfo | {'reduce_zero_label': reduced}, data_root=root, lazy_init=True)
        self.data_bytes, self._fully_initialized = np.zeros(0, np.uint8), True
        vars(self).update(attributes)

    def __len__(self):
        return 4


def folders(names):
    return Named(['a', 'b'], folder_to_idx={name: i for i, name in enumerate(names)})


def compare(one, other):
    return check_agreement([*label_spaces('fit_dataloader.dataset', one), *label_spaces('test', other)])


@pytest.mark.parametrize(
    ('first', 'second', 'message'),
    [
        (['a', 'b', 'c'], ['a', 'c'], r"classes \(3 and 2\): 'b' only in the first"),
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
    assert compare(Named(first), Named(tuple(first))) == []


@pytest.mark.parametrize(
    'wrap',
    [
        lambda x: SeededDataset(ConcatDataset([Named(['a', 'b']), x], ignore_keys='classes')),
        lambda x: Subset(RepeatDataset(x, 2), [0]),
    ],
)
def test_wrapped_data_sets_are_looked_into(wrap):
    assert compare(wrap(Named(['a', 'b'])), Named(['a', 'b'])) == []
    with pytest.raises(InputError, match="'b' only in the first, 'c' only in the second"):
        compare(Named(['a', 'b']), wrap(Named(['a', 'c'])))


@pytest.mark.parametrize(
    ('one', 'other', 'message'),
    [
        (folders('ab'), folders('ac'), r"different class folders \(2 and 2\): 'b' only in the first, 'c' only in"),
        (Named('a', ignore_index=255), Named('a', ignore_index=0), 'ignores label 255 and test label 0: set ignore_i'),
        (Named(['a'], reduced=False), Named(['a'], reduced=True), 'test has reduce_zero_label=True and fit_data'),
    ],
)
def test_labels_that_mean_something_else(one, other, message):
    with pytest.raises(InputError, match=message):
        compare(one, other)


def test_names_that_are_missing_are_said():
    (sentence,) = compare(Named(['a', 'b']), Named(None))
    assert sentence.startswith('test names no classes, so whether its labels are those of fit_dataloader.dataset')
    assert compare(Named(None), Named(None)) == []
    for meta in (None, [], {'classes': 'abc'}, {'classes': 3}, {'classes': []}, {'classes': {'a': 1}}):
        assert stored_space('a checkpoint', meta).classes is None


def test_heads_have_the_classes_of_the_data():
    space = LabelSpace('train', ('a', 'b', 'c'))
    assert check_num_classes(space, {'model.head.num_classes': 3}) == []
    with pytest.raises(InputError, match=r'model\.head\.num_classes is 2 and train has 3 classes: set model\.head'):
        check_num_classes(space, {'model.head.num_classes': 2})
    (sentence,) = check_num_classes(space, {'model.head.num_classes': 1000})
    assert 'classes that no label has' in sentence


@pytest.mark.parametrize(
    ('labels', 'names', 'ignored', 'sentences'),
    [
        ([0, 1, 255, 255], 'ab', 255, []),
        ([], 'ab', 255, []),
        ([0, 0, 255], 'ab', 255, ["1 of 2 classes without a single pixel ('b')... ignored one (255)"]),
        ([0, 0, 2], 'abc', None, ["1 of 3 classes without a single pixel ('b')"]),
        ([0, 1, 255, 255, 255], 'ab', 255, ['60.0% of all pixels are ignored (ignore_index=255)']),
    ],
)
def test_what_is_left_out_is_said(labels, names, ignored, sentences):
    counts = count_labels(np.array(labels, int), len(names), ignored)
    found = LabelCounts(LabelSpace('val', tuple(names), ignored=ignored), 'pixel', *counts)
    assert len(found.dropped()) == len(sentences)
    for said, expected in zip(found.dropped(), sentences, strict=True):
        start, _, more = expected.partition('...')
        assert said.startswith(f'val: {start}')
        assert more in said
        assert ('ignored' in said) == ('ignored' in expected)
    assert found.dropped(absent=False) == [sentence for sentence in found.dropped() if '%' in sentence]


@pytest.mark.parametrize('wrong', [2, -1, 254])
def test_labels_outside_the_classes(wrong):
    with pytest.raises(IndexError) as error:
        count_labels(np.array([[0, 1], [wrong, 255]]), 2, 255)
    assert error.value.args == (wrong,)


def test_probes_say_what_they_leave_out():
    images = torch.zeros(4, 3, 2, 2, dtype=torch.uint8)
    space = [LabelSpace('probe_data.val', ('cat', 'dog'))]
    maps = torch.tensor([0, 0, 0, 2]).view(1, 2, 2).repeat(4, 1, 1)
    one = LabelledImages(images, torch.tensor([0, 1, 0, 1]), torch.where(maps == 2, 1, maps), (0,))
    other = LabelledImages(images, torch.zeros(4, dtype=torch.long), maps, (0,), spaces=space)
    starts = [
        "probe_data.val: 1 of 2 classes without a single image ('dog')",
        "The data set: 1 of 2 classes without a single pixel ('label 2')",
        'The data set: 75.0% of all pixels are ignored',
        "probe_data.val: 1 of 2 classes without a single pixel ('label 1')",
        'probe_data.val: 75.0%',
    ]
    for said, start in zip(dropped_labels((one, other)), starts, strict=True):
        assert said.startswith(start)
    one.labels = one.label_maps = None
    assert dropped_labels((other, one)) == []
