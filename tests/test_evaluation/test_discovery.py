"""Objects from patches: by plain loops on tiny grids, by hand, and of patches that are all alike."""

import itertools

import numpy as np
import pytest
from scipy.linalg import eig

from mmmim.evaluation.label_free.boxes import box_iou, box_of, is_found
from mmmim.evaluation.label_free.discovery import dino_seg, largest_component, lost, strongest, tokencut
from mmmim.evaluation.label_free.scores import CorLoc
from mmmim.registry import PROBES
from mmmim.utils import InputError

GRID = (3, 5)


def flood(chosen, seed):
    """The patches that steps up, down, left and right lead to from a seed, among those that are chosen."""
    height, width = chosen.shape
    reached, todo = np.zeros_like(chosen), [divmod(seed, width)]
    while todo:
        row, column = todo.pop()
        if 0 <= row < height and 0 <= column < width and chosen[row, column] and not reached[row, column]:
            reached[row, column] = True
            todo += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    return reached


@pytest.fixture(params=range(4))
def features(request):
    """Patches of two kinds and noise."""
    rng = np.random.default_rng(request.param)
    kinds = np.zeros(GRID, int)
    kinds[:2, 1:3] = 1
    return rng.normal(size=(2, 6))[kinds.ravel()] + 0.4 * rng.normal(size=(15, 6))


@pytest.mark.parametrize('weighted', [False, True])
def test_tokencut_is_the_generalised_eigenproblem(features, weighted):
    tau, eps, n = 0.2, 1e-5, len(features)
    graph = np.empty((n, n))
    for p, q in itertools.product(range(n), repeat=2):
        cosine = features[p] @ features[q] / np.linalg.norm(features[p]) / np.linalg.norm(features[q])
        graph[p, q] = (cosine if weighted else 1) if cosine > tau else eps
    degree = np.diag(graph.sum(axis=1))
    values, vectors = eig(degree - graph, degree)
    vector = vectors[:, values.real.argsort()[1]].real
    vector /= np.sqrt(vector @ degree @ vector)

    found = tokencut(features, GRID, tau, eps, weighted)
    seed = found.seed  # of patches with the same neighbours, any
    assert abs(vector[seed]) == pytest.approx(np.abs(vector).max())
    vector *= np.sign(vector[seed])
    np.testing.assert_allclose(found.values.ravel(), vector, atol=1e-8)
    # Where the seed is below the mean, the other side is taken.
    chosen = vector > vector.mean()
    assert np.array_equal(found.mask, flood((chosen if chosen[seed] else ~chosen).reshape(GRID), seed))


@pytest.mark.parametrize('k', [1, 4, 100])
def test_lost_is_growing_a_seed(features, k):
    n = len(features)
    degree = [sum(features[p] @ features[q] > 0 for q in range(n) if q != p) for p in range(n)]
    order = sorted(range(n), key=lambda p: (degree[p], p))
    seed = order[0]
    grown = [p for p in order[:k] if features[seed] @ features[p] > 0]
    sums = np.array([sum(features[p] @ features[q] for p in grown) for q in range(n)])
    found = lost(features, GRID, k)
    assert found.seed == seed
    np.testing.assert_allclose(found.values.ravel(), sums)
    assert np.array_equal(found.mask, flood((sums > 0).reshape(GRID), seed))


def test_the_strongest_patches_are_the_fewest_that_hold_the_mass():
    rng = np.random.default_rng(0)
    for _ in range(20):
        attention = rng.dirichlet(np.ones(8))
        sets = [set(s) for size in range(1, 9) for s in itertools.combinations(range(8), size)]
        fewest = next(
            s for s in sorted(sets, key=lambda s: (len(s), -attention[list(s)].sum())) if attention[list(s)].sum() > 0.6
        )
        assert set(np.flatnonzero(strongest(3 * attention, 0.6))) == fewest
    assert strongest(np.ones((2, 5)), 1.0).all()


def test_the_largest_component_of_attention():
    attention = np.zeros((4, 5))
    attention[0, 0], attention[2:4, 2:4], attention[0, 4] = 2, 1, 0.9
    found = dino_seg(attention.ravel(), (4, 5), 0.85)
    expected = np.zeros((4, 5), bool)
    expected[2:4, 2:4] = True
    assert np.array_equal(found.mask, expected)
    assert (found.seed, found.components.max()) == (0, 2)
    diagonal = np.diag([1, 2, 3])  # corners do not connect
    assert np.array_equal(largest_component(diagonal), np.diag([True, False, False]))


@pytest.mark.parametrize('find', [tokencut, lost])
@pytest.mark.parametrize('value', [1.0, 0.3, 0.0])
def test_patches_that_are_all_alike(find, value):
    found = find(np.full((15, 6), value), GRID)
    assert found.mask.all() or (find is lost and value == 0)
    assert found.mask.flat[found.seed]
    one = find(np.full((1, 6), value), (1, 1))
    assert one.mask.tolist() == [[True]]
    assert np.isfinite(found.values).all()


def test_patches_without_length_among_others(features):
    features[3] = 0
    for weighted in (False, True):
        assert np.isfinite(tokencut(features, GRID, 0.0, weighted=weighted).values).all()


def test_what_cannot_be_looked_at(features):
    features[2, 1] = np.nan
    for find in (tokencut, lost):
        with pytest.raises(InputError, match='not finite'):
            find(features, GRID)
        with pytest.raises(InputError, match='15 patches do not fill a grid of 2 x 5'):
            find(np.ones((15, 2)), (2, 5))
    for attention in (-np.ones(15), np.zeros(15), np.full(15, np.inf)):
        with pytest.raises(InputError):
            dino_seg(attention, GRID)


def test_boxes():
    mask = np.zeros((3, 4), bool)
    mask[1, 1:3] = mask[2, 2] = True
    assert box_of(mask, (16, 16)).tolist() == [16, 16, 48, 48]
    assert box_of(mask, (8, 16), (20, 40)).tolist() == [16, 8, 40, 20]  # the last patches leave the image
    with pytest.raises(InputError, match='no patches'):
        box_of(np.zeros((3, 4), bool), (1, 1))
    iou = box_iou([[0, 0, 2, 2], [5, 5, 5, 9]], [[0, 0, 2, 2], [1, 0, 3, 2], [2, 0, 4, 4], [5, 5, 5, 9]])
    np.testing.assert_allclose(iou, [[1, 1 / 3, 0, 0], [0, 0, 0, 0]])


def test_corloc():
    """One box, any box of the image, and an overlap of exactly a half counts."""
    assert is_found(np.array([0, 0, 2, 2]), np.array([[50, 50, 60, 60], [0, 0, 2, 4]]))
    assert not is_found(np.array([0, 0, 2, 2]), np.array([[0, 0, 2, 4.01], [1, 0, 3, 2]]))

    def sample(box, boxes):
        return {'found': type('F', (), {'box': np.array(box)}), 'gt_bboxes': boxes}

    metric = CorLoc()
    metric.process(None, [sample([0, 0, 2, 2], [(0, 0, 2, 3)]), sample([0, 0, 2, 2], [(4, 4, 6, 6), (5, 5, 6, 6)])])
    metric.process(None, [sample([3, 3, 6, 6], [(4, 4, 6, 6), (3, 3, 5.5, 5.5)])])
    assert metric.evaluate(3) == {'discovery/CorLoc': pytest.approx(200 / 3), 'discovery/images': 3}
    with pytest.raises(InputError, match='needs the boxes of every image'):
        metric.process(None, [sample([0, 0, 2, 2], [])])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'type': 'mmmim.TokenCut', 'features': 'cls'}, 'TokenCut.features must be'),
        ({'type': 'mmmim.TokenCut', 'tau': 1.0}, 'TokenCut.tau must be'),
        ({'type': 'mmmim.LOST', 'k': 0}, 'LOST.k must be'),
        ({'type': 'mmmim.DINOSeg', 'mass': 0}, 'DINOSeg.mass must be'),
        ({'type': 'mmmim.PatchClusters', 'clusters': []}, 'PatchClusters.clusters must be'),
    ],
)
def test_options(options, message):
    with pytest.raises(InputError, match=message):
        PROBES.build(options)


def test_heads():
    attention = np.random.default_rng(0).random((15, 3))
    mean = PROBES.build({'type': 'mmmim.DINOSeg', 'head': 'mean'}).discover(attention, GRID)
    assert np.array_equal(mean.mask, dino_seg(attention.mean(axis=1), GRID).mask)
    last = PROBES.build({'type': 'mmmim.DINOSeg', 'head': 2}).discover(attention, GRID)
    assert np.array_equal(last.mask, dino_seg(attention[:, 2], GRID).mask)
    with pytest.raises(InputError, match=r'test_cfg\.probe\.head=4: the encoder has 3 heads'):
        PROBES.build({'type': 'mmmim.DINOSeg'}).discover(attention, GRID)
