"""Depths and normals of planes that are known, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from mmmim.datasets import LoadDepth, LoadNormals, NYUv2
from mmmim.datasets.transforms.maps import normals_of_depth
from mmmim.utils import InputError
from tests.nyu import CAMERA, PLANES, depth_of, rays, write_nyu


def angle(found, normal):
    """Largest angle to a vector where there is a normal, in degrees."""
    known = np.isfinite(found).all(2)
    return np.degrees(np.arccos((found[known] @ np.array(normal)).clip(-1, 1))).max()


@pytest.mark.parametrize(('normal', 'distance'), PLANES)
def test_normals_of_planes(normal, distance):
    depth = depth_of(normal, distance)
    found = normals_of_depth(depth, CAMERA)
    known = np.isfinite(depth)
    # All but a border of the part that is in front of the camera.
    assert np.isfinite(found).all(2).sum() > 0.9 * known.sum()
    assert not np.isfinite(found[~known]).any()
    assert angle(found, normal) < 0.05
    toward = (found * rays()).sum(2)
    assert (toward[np.isfinite(toward)] < 0).all()


def test_a_sphere():
    """Normals of a curved surface are those of its points, but for the size of the window."""
    centre, radius = np.array([0.0, 0.0, 3.0]), 1.0
    lines = rays()
    lines = lines / np.linalg.norm(lines, axis=2, keepdims=True)
    middle = lines @ centre
    root = middle**2 - centre @ centre + radius**2
    points = lines * (middle - np.sqrt(np.where(root > 0, root, np.nan)))[..., None]
    found = normals_of_depth(points[..., 2], CAMERA)
    expected = (points - centre) / radius
    known = np.isfinite(found).all(2) & (expected[..., 2] < -0.5)
    error = np.degrees(np.arccos((found * expected).sum(2)[known].clip(-1, 1)))
    assert known.sum() > 50_000
    assert np.median(error) < 0.5
    assert error.max() < 3


def test_edges_have_no_normal():
    depth = np.full((60, 80), 2.0)
    depth[:, 40:] = 4.0
    depth[10, 10] = np.nan
    found = normals_of_depth(depth, (500.0, 500.0, 40.0, 30.0), radius=3)
    known = np.isfinite(found).all(2)
    assert not known[:, 38:42].any()
    inner = known[3:-3, 3:36]  # a window of a corner has too few pixels
    assert inner.sum() == inner.size - 1
    assert angle(found, (0, 0, -1)) < 1e-3


@pytest.fixture
def root(tmp_path):
    write_nyu(tmp_path, train=2, test=1, normals=True)
    return tmp_path


def test_files(root):
    dataset = NYUv2(str(root), 'train', normals=True)
    assert len(dataset) == 2
    info = dataset.get_data_info(1)
    assert [info[key].rpartition('/')[2] for key in ('img_path', 'depth_map_path', 'normal_map_path')] == [
        'room_1.jpg',
        'room_1.png',
        'room_1.png',
    ]
    depth = LoadDepth(high=2.5).transform(dict(info))['gt_map']
    raw = np.array(Image.open(info['depth_map_path']))
    counts = (raw > 0) & (raw <= 2500)
    assert 0 < counts.sum() < counts.size
    assert (np.isfinite(depth[..., 0]) == counts).all()
    np.testing.assert_allclose(depth[counts][:, 0], raw[counts] / 1000, rtol=1e-6)
    of_depth, of_file = (LoadNormals(source).transform(dict(info))['gt_map'] for source in ('depth', 'file'))
    both = np.isfinite(of_depth).all(2) & np.isfinite(of_file).all(2)
    assert both.mean() > 0.5
    # Millimetres and 8 bits are coarse.
    error = np.degrees(np.arccos((of_depth * of_file).sum(2)[both].clip(-1, 1)))
    assert np.median(error) < 1


def harm_depth(root, array):
    Image.fromarray(array).save(root / 'annotations/train/room_0.png')


@pytest.mark.parametrize(
    ('harm', 'message'),
    [
        (
            lambda root: (root / 'annotations/train/room_1.png').unlink(),
            r"room_1 of split 'train' has no depth map",
        ),
        (lambda root: (root / 'images/train/room_1.jpg').rename(root / 'images/train/room_1.txt'), None),
        (lambda root: harm_depth(root, np.zeros((4, 4), np.uint8)), '8 bits per pixel: give one number of 16 bits'),
        (lambda root: harm_depth(root, np.zeros((4, 4, 3), np.uint8)), 'holds colours'),
        (lambda root: (root / 'annotations/train/room_0.png').write_bytes(b'no'), 'unreadable'),
        (lambda root: (root / 'images/train').rename(root / 'images/x'), r'images/train is missing.*nyuv2-depth'),
    ],
)
def test_what_is_wrong_is_said(harm, message, root):
    harm(root)
    if message is None:  # files that are no images are none
        assert len(NYUv2(str(root))) == 1
        return
    with pytest.raises(InputError, match=message):
        LoadDepth().transform(NYUv2(str(root)).get_data_info(0))
