"""Generated videos: the same everywhere, with objects that move and hide each other."""

import json

import numpy as np
import pytest

from mmmim.datasets import MovingFashion, moving_fashion
from mmmim.datasets.davis import read_annotation
from mmmim.datasets.fashion_scenes_generator import EMBEDDED, split_items
from mmmim.datasets.moving_fashion_generator import SIZES, checksum, generate_clip
from mmmim.datasets.transforms import read_image
from mmmim.utils import InputError

SMALL = {'sequences': 2, 'frames': 4, 'objects': (2, 3)}


@pytest.fixture(scope='module')
def items():
    return split_items(EMBEDDED, 'test')


@pytest.fixture(scope='module')
def clips(items):
    options = moving_fashion.DEFAULT
    return [generate_clip(items, i, options['frames'], options['objects'], 0) for i in range(options['sequences'])]


def test_default_videos_are_the_reference(clips):
    assert checksum(clips) == moving_fashion.CHECKSUM


def test_objects_are_all_seen_at_first_and_some_are_hidden_later(clips):
    hidden = []
    for number, clip in enumerate(clips):
        assert clip.frames.shape == (24, *SIZES[number % 3], 3)
        count = clip.indices.max()
        assert 2 <= count <= 5
        seen = np.array([(clip.indices == index).sum((1, 2)) for index in range(1, count + 1)])
        assert (seen[:, 0] > 50).all()
        hidden += (seen.min(axis=1) / seen[:, 0]).tolist()
        assert (clip.indices[0] != clip.indices[-1]).mean() > 0.05
    assert len(hidden) == 45
    assert min(hidden) < 0.1
    assert np.median(hidden) < 0.7


def test_any_number_of_objects(items):
    clip = generate_clip(items, 0, 3, (254, 254), 1)
    assert len(np.unique(clip.indices)) > 40  # of which most are hidden in a frame of 64 x 96 pixels
    assert generate_clip(items, 0, 3, (1, 1), 1).indices.max() == 1


def test_seeds_and_numbers_give_other_videos(items):
    def first(number, seed):
        return generate_clip(items, number, 3, (2, 2), seed)

    assert checksum([first(0, 5)]) == checksum([first(0, 5)])
    assert len({checksum([first(number, seed)]) for number in (0, 3) for seed in (5, 6)}) == 4


def test_written_once_in_the_layout_of_davis(tmp_path, items):
    root = tmp_path / 'data'
    dataset = MovingFashion(str(root), **SMALL)
    assert [(each.name, len(each.frames)) for each in dataset] == [('garments-000', 4), ('garments-001', 4)]
    clip = generate_clip(items, 1, 4, (2, 3), 0)
    assert (np.stack([read_image(path) for path in dataset[1].frames]) == clip.frames).all()
    assert (np.stack([read_annotation(path) for path in dataset[1].annotations]) == clip.indices).all()
    before = (root / 'meta.json').stat().st_mtime_ns
    assert len(MovingFashion(str(root), **SMALL, indices=1)) == 1
    assert (root / 'meta.json').stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == ['data']


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'seed': 1}, r"holds MovingFashion .*'seed': 0.*'seed': 1.* is asked for"),
        ({'objects': (3, 2)}, r'objects=\(3, 2\): give the smaller number first'),
        ({'objects': (0, 2)}, 'objects'),
        ({'objects': (2, 255)}, 'objects'),
        ({'frames': 2}, 'frames'),
    ],
)
def test_refusals(tmp_path, changes, message):
    MovingFashion(str(tmp_path / 'data'), **SMALL)
    with pytest.raises(InputError, match=message):
        MovingFashion(str(tmp_path / 'data'), **{**SMALL, **changes})


def test_other_data_and_another_version(tmp_path):
    (tmp_path / 'mine').mkdir()
    with pytest.raises(InputError, match='is not a complete MovingFashion folder'):
        MovingFashion(str(tmp_path / 'mine'), **SMALL)
    MovingFashion(str(tmp_path / 'data'), **SMALL)
    meta = tmp_path / 'data/meta.json'
    meta.write_text(json.dumps({**json.loads(meta.read_text()), 'version': 0}))
    with pytest.raises(InputError, match='of version 0'):
        MovingFashion(str(tmp_path / 'data'), **SMALL)
