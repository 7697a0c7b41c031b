"""Clusters and neighbourhoods of patches against scikit-learn and plain loops."""

import itertools

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

from mmmim.evaluation.label_free.clusters import PatchTree, by_size, spread
from mmmim.evaluation.label_free.methods import FoundClusters
from mmmim.evaluation.label_free.neighbours import (
    nearest_patches,
    neighbourhoods,
    quantile_thresholds,
    similarities,
)
from mmmim.evaluation.label_free.scores import MatchedIoU, matched_iou, number_of_classes
from mmmim.utils import InputError

GRID = (5, 8)


@pytest.fixture
def features():
    rng = np.random.default_rng(0)
    return rng.normal(size=(4, 7))[rng.integers(0, 4, 40)] + 0.5 * rng.normal(size=(40, 7))


@pytest.mark.parametrize('method', ['ward', 'average'])
def test_cuts_are_those_of_scikit_learn(features, method):
    tree = PatchTree(features, GRID, method)
    metric = 'euclidean' if method == 'ward' else 'cosine'
    theirs = AgglomerativeClustering(linkage=method, metric=metric, n_clusters=2)
    cuts = []
    for clusters in (2, 3, 5, 9, 40):
        cut = tree.cut(clusters)
        expected = theirs.set_params(n_clusters=clusters).fit_predict(normalize(features))
        assert adjusted_rand_score(cut.ravel(), expected) == 1
        assert np.array_equal(np.unique(cut), np.arange(clusters))
        sizes = np.bincount(cut.ravel())
        assert (np.diff(sizes) <= 0).all()
        cuts.append(cut)
    for coarse, fine in itertools.pairwise(cuts):  # nested
        assert all(len(np.unique(coarse[fine == each])) == 1 for each in np.unique(fine))
    height = (tree.heights[-4] + tree.heights[-3]) / 2
    assert np.array_equal(tree.cut_at(height), tree.cut(4))
    assert np.array_equal(tree.cut_at(tree.heights[-4]), tree.cut(4))  # a merge at the height is made
    assert tree.cut_at(1e9).max() == 0
    assert tree.cut_at(-1).max() == 39


@pytest.mark.parametrize('method', ['ward', 'average'])
def test_few_patches_and_patches_that_are_all_alike(method):
    assert PatchTree(np.ones((1, 3)), (1, 1), method).cut(4).tolist() == [[0]]
    tree = PatchTree(np.full((6, 3), 0.7), (2, 3), method)
    assert np.abs(tree.heights).max() < 1e-7
    assert np.unique(tree.cut(4)).tolist() == [0, 1, 2, 3]
    assert np.unique(tree.cut(9)).tolist() == list(range(6))
    mixed = np.array([[1.0, 0], [1, 0], [0, 0], [0, 1]])
    assert PatchTree(mixed, (2, 2), method).cut(3).tolist() == [[0, 0], [1, 2]]  # one has no length
    with pytest.raises(InputError, match='not finite'):
        PatchTree(np.array([[np.inf, 1], [1, 1]]), (1, 2), method)


def test_numbers_of_clusters():
    assert by_size(np.array([7, 3, 3, 9, 5, 9, 3])).tolist() == [2, 0, 0, 1, 3, 1, 0]


def test_pixels_have_the_value_of_the_patch_that_holds_their_centre():
    values = np.arange(6).reshape(2, 3)
    assert np.array_equal(spread(values, (2, 2), (4, 6)), values.repeat(2, 0).repeat(2, 1))
    assert spread(values, (2, 2), (3, 5)).tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]  # padded
    assert spread(values, (1.5, 4 / 3), (3, 4)).tolist() == [[0, 1, 1, 2], [3, 4, 4, 5], [3, 4, 4, 5]]


def test_matching_is_the_best_of_all():
    rng = np.random.default_rng(1)
    for clusters, classes in ((2, 3), (3, 3), (5, 2), (1, 4)):
        found, labels = rng.integers(0, clusters, (6, 7)), rng.integers(0, classes, (6, 7)) + 3
        labels[0] = 255
        counted = labels != 255
        present = np.unique(labels[counted])

        def iou(cluster, label, found=found, labels=labels, counted=counted):
            a, b = (found == cluster) & counted, labels == label
            return (a & b).sum() / (a | b).sum()

        numbers = [*np.unique(found[counted]), *[-1] * len(present)]  # -1: of no cluster
        best = max(
            sum(iou(c, label) for c, label in zip(choice, present, strict=True) if c >= 0)
            for choice in itertools.permutations(numbers, len(present))
        )
        assert matched_iou(found, labels, 255) == pytest.approx(best / len(present))
        assert number_of_classes(labels, 255) == len(present)
    assert matched_iou(found, np.full((6, 7), 255), 255) is None
    assert number_of_classes(np.full((6, 7), 255), 255) == 1
    assert matched_iou(labels, labels) == 1


def test_scores_are_means_over_images():
    classes = np.array([[0, 0, 1, 1]])
    halves, quarters, ignored = np.array([[5, 5, 2, 2]]), np.array([[0, 1, 2, 3]]), np.full((1, 4), 255)
    metric = MatchedIoU()
    found = [
        FoundClusters({'2': halves, 'classes': quarters}, classes, 255),
        FoundClusters({'2': quarters, 'classes': halves}, classes, 255),
        FoundClusters({'2': quarters, 'classes': quarters}, ignored, 255),
    ]
    metric.process(None, [{'found': each} for each in found])
    scores = metric.evaluate(3)
    assert scores == {'clusters/mIoU_2': 75.0, 'clusters/mIoU_classes': 75.0, 'clusters/images': 2}


def test_neighbourhoods(features):
    found = similarities(features, [3, 17])
    np.testing.assert_allclose(found, cosine_similarity(features)[[3, 17]])
    thresholds = [1.0, 0.5, 0.0, -1.0]
    masks = neighbourhoods(found, thresholds)
    assert masks.shape == (4, 2, 40)
    assert masks[:, 0, 3].all()
    assert masks[:, 1, 17].all()
    assert (np.diff(masks.astype(int), axis=0) >= 0).all()
    assert masks[-1].all()
    assert similarities(np.zeros((2, 3)), [1]).tolist() == [[0, 1]]
    limits = quantile_thresholds(found[0], [0.0, 0.05, 0.5, 1.0])
    assert [(found[0] >= limit).sum() for limit in limits] == [1, 2, 20, 40]


def test_nearest_patches_of_other_images(features):
    images = [features[:10], features[10:30], features[30:] * 3]
    queries = features[[0, 12]]
    found = nearest_patches(queries, images, 2)
    for query, nearest in zip(queries, found, strict=True):
        best = []
        for i, image in enumerate(images):
            similarity = cosine_similarity(query[None], image)[0]
            best.append((float(similarity.max()), i, int(similarity.argmax())))
        best.sort(reverse=True)
        assert [(one.image, one.patch) for one in nearest] == [(i, patch) for _, i, patch in best[:2]]
        np.testing.assert_allclose([one.similarity for one in nearest], [value for value, _, _ in best[:2]])
    assert found[1][0][:2] == (1, 2)
