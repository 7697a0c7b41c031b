"""Labels carried from frame to frame, against plain loops. Recorded runs of DINO's code are in tests/test_parity."""

import numpy as np
import pytest
import torch

from mmmim.evaluation.tracking.label_maps import first_labels, hard_labels, input_size, object_maps
from mmmim.evaluation.tracking.propagation import Propagation, Propagator
from mmmim.utils import InputError

GRID, CHANNELS = (4, 5), 3


def plain(frames, first, how):
    """Soft labels of all frames but the first, patch by patch."""
    frames = [each / np.linalg.norm(each, axis=1, keepdims=True) for each in np.asarray(frames, np.float64)]
    places = [divmod(i, GRID[1]) for i in range(GRID[0] * GRID[1])]
    labels, found = [np.asarray(first, np.float64)], []

    def near(one, other):
        down, across = abs(one[0] - other[0]), abs(one[1] - other[1])
        apart = max(down, across) if how.shape == 'square' else np.hypot(down, across)
        return not how.radius or apart <= how.radius

    for t in range(1, len(frames)):
        before = [i for i in range(t - how.context, t) if how.repeat_first or i > 0]
        context = [(0, how.free_first), *((max(i, 0), False) for i in before)]
        rows = []
        for query, place in zip(frames[t], places, strict=True):
            candidates = [
                (query @ frames[i][s], labels[i][s])
                for i, free in context
                for s, other in enumerate(places)
                if free or near(place, other)
            ]
            candidates.sort(key=lambda pair: -pair[0])
            best = candidates[: how.topk]
            if how.keep_ties:
                best += [pair for pair in candidates[how.topk :] if pair[0] == best[-1][0]]
            weights = np.array([np.exp(cosine / how.temperature) for cosine, _ in best])
            rows.append(weights @ np.array([label for _, label in best]) / weights.sum())
        labels.append(np.array(rows))
        found.append(labels[-1])
    return np.array(found)


def video(frames=6, dim=7, seed=0):
    rng = np.random.default_rng(seed)
    patches = GRID[0] * GRID[1]
    first = np.eye(CHANNELS)[rng.integers(0, CHANNELS, patches)]
    return rng.normal(size=(frames, patches, dim)).astype(np.float32), first.astype(np.float32)


def carried(frames, first, how, **options):
    head, *others = torch.from_numpy(frames)
    propagator = Propagator(head, torch.from_numpy(first), GRID, how, **options)
    return torch.stack([propagator.step(each) for each in others]).numpy()


SETTINGS = [
    {},
    {'context': 2, 'radius': 1},
    {'radius': 0, 'topk': 1},
    {'context': 0},
    {'radius': 2, 'shape': 'circle', 'topk': 100},
    {'radius': 1.99, 'shape': 'circle', 'free_first': True, 'temperature': 0.5},
    {'context': 3, 'radius': 1, 'keep_ties': False, 'free_first': True},
]


@pytest.mark.parametrize('settings', SETTINGS, ids=str)
def test_is_a_plain_loop(settings):
    frames, first = video()
    how = Propagation(**settings)
    expected = plain(frames, first, how)
    for size in (2**26, 1200, 1):  # all queries at once, some of a row, one by one
        np.testing.assert_allclose(carried(frames, first, how, chunk_bytes=size), expected, atol=2e-6)


def test_copies_of_the_first_frame_fill_the_context():
    """Ten of the most similar patches are all copies of one, so exactly ten and all ties give the same labels."""
    frames, first = video(frames=3)
    how = Propagation(context=4, repeat_first=True, topk=5, keep_ties=False, free_first=True)
    best = np.argmax(frames[1] @ (frames[0] / np.linalg.norm(frames[0], axis=1, keepdims=True)).T, axis=1)
    found = carried(frames, first, how)
    np.testing.assert_allclose(found[0], first[best], atol=1e-6)
    assert abs(carried(frames, first, Propagation(context=4, topk=5))[0] - first[best]).max() > 0.1
    # Later the copies leave one by one.
    keep = Propagation(context=4, repeat_first=True, topk=1000)
    np.testing.assert_allclose(carried(frames, first, keep), plain(frames, first, keep), atol=2e-6)


def test_ties_are_kept_or_not():
    """Two frames of equal patches: all are ties."""
    frames = np.ones((2, 20, 3), np.float32)
    _, first = video()
    np.testing.assert_allclose(
        carried(frames, first, Propagation(radius=0))[0], first.mean(0)[None].repeat(20, 0), atol=1e-6
    )
    few = carried(frames, first, Propagation(radius=0, topk=1, keep_ties=False))[0]
    assert (few.max(axis=1) == 1).all()


def test_features_that_are_not_finite():
    frames, first = video()
    frames[2, 3] = np.nan
    with pytest.raises(InputError, match='not finite'):
        carried(frames, first, Propagation())


@pytest.mark.parametrize(
    ('size', 'patch', 'short_side', 'expected'),
    [
        ((480, 854), 16, 480, (480, 832)),
        ((1152, 480), 8, 480, (1152, 480)),
        ((480, 480), 16, 480, (480, 448)),
        ((480, 854), 14, 480, (476, 826)),
        ((1080, 1920), 16, 240, (240, 384)),
        ((480, 854), 16, None, (480, 848)),
        ((64, 112), 4, None, (64, 112)),
    ],
)
def test_sizes_of_frames(size, patch, short_side, expected):
    assert input_size(*size, patch, short_side) == expected


@pytest.mark.parametrize(('size', 'short_side'), [((30, 40), 32), ((10, 40), None)])
def test_frames_of_which_nothing_is_left(size, short_side):
    with pytest.raises(
        InputError, match=rf'{size[0]} x {size[1]} pixels at short_side={short_side}.*short_side to more'
    ):
        input_size(*size, 16, short_side)


def test_first_labels():
    annotation = np.zeros((8, 12), np.uint8)
    annotation[:, 6:] = 1
    annotation[0, 0] = 2  # too small for the grid
    nearest = first_labels(annotation, 2, (2, 3), Propagation())
    assert nearest.unflatten(0, (2, 3)).argmax(dim=2).tolist() == [[0, 1, 1], [0, 1, 1]]
    assert nearest.shape == (6, 3)
    assert not nearest[:, 2].any()
    soft = first_labels(annotation, 2, (2, 3), Propagation(first_labels='bilinear'))
    np.testing.assert_allclose(soft.sum(dim=1), 1)
    # The middle patch has its centre between the halves.
    np.testing.assert_allclose(soft[1], [0.5, 0.5, 0])


def test_the_map_of_each_object_is_stretched_before_the_greatest_wins():
    soft = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.7, 0.3, 0.0], [0.6, 0.4, 0.0]])
    grid, size = (1, 4), (2, 8)
    stretched = hard_labels(soft, grid, size, (2, 8), Propagation())
    plainly = hard_labels(soft, grid, size, (2, 8), Propagation(min_max=False))
    assert not plainly.any()
    assert stretched[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    maps = torch.stack(list(object_maps(soft, grid, size, min_max=True)))
    assert (maps.amin((1, 2)).tolist(), maps.amax((1, 2)).tolist()) == ([0, 0, 0], [1, 1, 0])
    same = torch.full((4, 2), 0.5)  # maps that are the same everywhere: the background
    assert not hard_labels(same, grid, size, (2, 8), Propagation()).any()


def test_up_sampling():
    """To the input and by nearest neighbours on, or to the original size at once."""
    soft = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = {
        kind: hard_labels(soft, (1, 2), (1, 4), (1, 12), Propagation(upsample=kind))[0].tolist()
        for kind in ('input', 'original')
    }
    assert found == {'input': [0] * 6 + [1] * 6, 'original': [0] * 6 + [1] * 6}
    soft = torch.tensor([[1.0, 0.0], [0.2, 0.8]])
    plainly = {
        kind: hard_labels(soft, (1, 2), (1, 4), (1, 12), Propagation(upsample=kind, min_max=False))[0].sum()
        for kind in ('input', 'original')
    }
    assert plainly == {'input': 6, 'original': 5}


def test_more_objects_than_bits_of_a_colour():
    """254 objects, the most that 8 bits tell from background and void, each in a patch of its own."""
    grid = (15, 17)
    annotation = np.arange(255, dtype=np.uint8).reshape(grid)
    labels = first_labels(annotation, 254, grid, Propagation())
    found = hard_labels(labels, grid, (30, 34), (15, 17), Propagation())
    assert (found == annotation).mean() > 0.99
