"""A part of a data set and the rest of it."""

import numpy as np
import pytest

from mmmim.registry import DATASETS
from mmmim.utils import InputError
from tests.shrink import write_images
from tests.test_datasets.image_level import PIPELINE, paths


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp('split')
    write_images(path / 'a', number=7)
    write_images(path / 'b', number=6)
    return path


def build(folder, part, **options):
    images = {'type': 'mmmim.ImageFolder', 'data_root': str(folder), 'with_label': True, 'pipeline': PIPELINE}
    return DATASETS.build({'type': 'mmmim.Split', 'part': part, 'dataset': images, **options})


def test_the_parts_are_those_of_the_permutation(folder):
    """That of numpy's generator, which is CAPI's: nine tenths, rounded, then the rest."""
    images = {'type': 'mmmim.ImageFolder', 'data_root': str(folder), 'with_label': True, 'pipeline': PIPELINE}
    whole = paths(DATASETS.build(images))
    order = [whole[i] for i in np.random.default_rng(42).permutation(13)]
    train, val = build(folder, 'train'), build(folder, 'val')
    assert (paths(train), paths(val)) == (order[:12], order[12:])
    assert train.metainfo['classes'] == val.metainfo['classes'] == ('a', 'b')
    assert train[0]['data_samples'].gt_label is not None
    half = build(folder, 'val', share=0.5, seed=1)
    assert paths(half) == [whole[i] for i in np.random.default_rng(1).permutation(13)][6:]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'part': 'test'}, r"Split\.part must be one of 'train', 'val'"),
        ({'part': 'val', 'share': 1.0}, r'Split\.share must be'),
        ({'part': 'val', 'share': 0.99}, "'val' would have none of 13 images"),
        ({'part': 'val', 'seed': -1}, r'Split\.seed must be'),
    ],
)
def test_what_is_refused(folder, options, message):
    with pytest.raises(InputError, match=message):
        build(folder, **options)
