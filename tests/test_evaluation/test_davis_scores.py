"""J, F and their statistics, on masks whose scores are known by hand. Recorded ones are in tests/test_parity."""

import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from mmmim.evaluation.measures.davis import (
    ObjectScores,
    Statistics,
    boundary_map,
    boundary_radius,
    contour_accuracy,
    global_scores,
    number_of_objects,
    region_similarity,
    score_sequence,
    statistics,
)
from mmmim.evaluation.measures.video_objects import ScoredObject, score_rows, score_table
from mmmim.utils import InputError


def box(top, bottom, left, right, size=(40, 60)):
    mask = np.zeros(size, bool)
    mask[top:bottom, left:right] = True
    return mask


EMPTY, FULL = box(0, 0, 0, 0), box(0, 40, 0, 60)


def test_region_and_contour_of_boxes():
    one, other = box(10, 20, 10, 30), box(10, 20, 20, 40)
    assert region_similarity(one, other) == 100 / 300
    assert region_similarity(EMPTY, EMPTY) == region_similarity(one, one) == contour_accuracy(one, one) == 1
    assert region_similarity(EMPTY, one) == contour_accuracy(EMPTY, one) == contour_accuracy(one, EMPTY) == 0
    # The border of the image is no contour, so what fills it has as few as what is empty.
    assert (region_similarity(FULL, EMPTY), contour_accuracy(FULL, EMPTY)) == (0, 1)
    assert boundary_radius(40, 60) == 1
    assert contour_accuracy(one, box(10, 20, 11, 31)) == 1
    assert contour_accuracy(one, box(10, 20, 13, 33)) < 1 == contour_accuracy(one, box(10, 20, 13, 33), tolerance=3)


def test_contours_lie_half_a_pixel_up_and_left():
    found = boundary_map(box(2, 4, 3, 6, size=(6, 8)))
    expected = np.zeros((6, 8), bool)
    expected[1, 2:6] = expected[3, 2:6] = expected[1:4, 2] = expected[1:4, 5] = True
    assert (found == expected).all()


@pytest.mark.parametrize('seed', range(4))
def test_contour_accuracy_is_that_of_dilated_boundaries(seed):
    rng = np.random.default_rng(seed)
    one, other = (np.kron(rng.random((8, 12)) > 0.6, np.ones((5, 5), bool)) for _ in range(2))
    radius = rng.integers(1, 5)
    axis = np.arange(-radius, radius + 1)
    disk = np.hypot(axis[:, None], axis) <= radius
    ours, theirs = boundary_map(one), boundary_map(other)
    precision = ours[binary_dilation(theirs, disk)].sum() / ours.sum()
    recall = theirs[binary_dilation(ours, disk)].sum() / theirs.sum()
    expected = 2 * precision * recall / (precision + recall)
    assert contour_accuracy(one, other, float(radius)) == pytest.approx(expected)


def test_statistics():
    # Of nine frames the quarters are the first three and the last three; five are above a half.
    series = [0.9, 0.8, 0.7, 0.6, 0.55, 0.5, 0.2, 0.1, 0.0]
    assert statistics(series) == pytest.approx((np.mean(series), 5 / 9, 0.7))
    # The quarters of four frames meet in the middle; NaN is left out of means and is no recall.
    assert statistics([1.0, 0.8, 0.4, np.nan]) == pytest.approx((2.2 / 3, 0.5, 0.9 - 0.4))
    assert statistics([0.3]) == pytest.approx((0.3, 0, 0))
    # More than 256 frames, which DAVIS's own 8 bits do not hold.
    assert statistics(np.linspace(1, 0, 1001)).decay == pytest.approx(0.75)


def frames(*masks):
    return [np.asarray(mask, np.uint8) for mask in masks]


def test_objects_that_vanish_come_late_or_are_never_found():
    one, two, late = box(0, 10, 0, 10), box(20, 30, 20, 40), box(30, 40, 50, 60)
    annotated = frames(one + 2 * two, 2 * two + 3 * late, one + 2 * two, one + 2 * two)
    annotated[0][39, 59] = 255  # void, which is no object
    found = frames(one, one, one, EMPTY)
    scores = score_sequence(annotated, found)
    # The first vanishes from a frame in which it is still found; the second is never found; the late one is none.
    assert scores.region.tolist() == [[0, 1], [0, 0]]
    assert scores.contour.tolist() == [[0, 1], [0, 0]]
    empty = score_sequence(annotated, frames(one, EMPTY, one, EMPTY))
    assert empty.region[0].tolist() == [1, 1]
    assert number_of_objects(annotated[0]) == 2
    # An index between others that is not there has empty masks, which are right where nothing is found.
    gap = score_sequence(frames(*[one + 3 * two] * 3), frames(*[one + 3 * two] * 3))
    assert gap.region.tolist() == [[1]] * 3


@pytest.mark.parametrize(
    ('annotated', 'found', 'message'),
    [
        (frames(FULL, FULL), frames(FULL, FULL), 'at least 3'),
        (frames(FULL, FULL, FULL), frames(FULL, FULL), '2 frames are predicted of 3'),
        (frames(EMPTY, FULL, FULL), frames(EMPTY, FULL, FULL), 'has no object'),
        (frames(FULL, FULL, FULL), frames(FULL, 2 * FULL, FULL), 'to hold object 2: there are 1'),
        (frames(FULL, FULL, FULL), frames(FULL, FULL[1:], FULL), '39 x 60 in the prediction and 40 x 60'),
    ],
)
def test_what_cannot_be_scored(annotated, found, message):
    with pytest.raises(InputError, match=message):
        score_sequence(annotated, found)


def test_all_objects_count_alike_whatever_their_sequence():
    scores = [Statistics(0.9, 1.0, 0.1), Statistics(0.3, 0.0, 0.2), Statistics(0.6, 0.5, 0.0)]
    halves = [each._replace(mean=each.mean / 2) for each in scores]
    found = global_scores(list(zip(scores, halves, strict=True)))
    assert list(found) == ['J&F-Mean', 'J-Mean', 'J-Recall', 'J-Decay', 'F-Mean', 'F-Recall', 'F-Decay']
    assert list(found.values()) == pytest.approx([0.45, 0.6, 0.5, 0.1, 0.3, 0.5, 0.1])
    named = [('dog', 1), ('dog', 2), ('cat', 1)]
    objects = [ScoredObject(*name, j, f) for name, j, f in zip(named, scores, halves, strict=True)]
    rows = score_rows(objects)
    assert [row['name'] for row in rows] == ['dog_1', 'dog_2', 'dog', 'cat_1', 'cat', 'all']
    assert [row['J-Mean'] for row in rows] == pytest.approx([90, 30, 60, 60, 60, 60])
    assert '| dog_2' in score_table(rows)
    assert score_table(rows).splitlines()[-1].split()[3] == '45.0'


def test_frames_are_put_together_object_by_object():
    found = ObjectScores.of_frames([(np.array([0.1, 0.2]), np.array([0.3, 0.4]))] * 3)
    assert found.region.shape == found.contour.shape == (2, 3)
    assert [j.mean for j, _ in found.statistics()] == pytest.approx([0.1, 0.2])
