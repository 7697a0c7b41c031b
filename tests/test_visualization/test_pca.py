import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from mmmim.utils import InputError
from mmmim.visualization.pca import LIMIT, pca_components, to_coolwarm, to_rgb
from tests.toys import generator


def features(patches=200, width=12):
    """Skewed, correlated, far from the origin."""
    rng = generator()
    return torch.rand(patches, width, generator=rng) ** 3 @ torch.randn(width, width, generator=rng) + 5


@pytest.mark.parametrize(('patches', 'width'), [(200, 12), (10, 40)])
def test_components_are_those_of_scikit_learn_with_positive_skew(patches, width):
    x = features(patches, width)
    ours = pca_components(x, 5).numpy()
    theirs = PCA(5, whiten=True, svd_solver='full').fit_transform(x.double().numpy())
    theirs *= np.sign((theirs**3).mean(axis=0))
    np.testing.assert_allclose(ours, theirs, atol=1e-8)
    # The sign does not depend on that of the features.
    rotation = torch.linalg.qr(torch.randn(width, width, dtype=torch.float64, generator=generator(1)))[0]
    np.testing.assert_allclose(pca_components(x.double() @ -rotation, 4), ours[:, :4], rtol=1e-6, atol=1e-6)


def test_directions_without_variance_are_not_blown_up():
    x = features(50, 2) @ torch.randn(2, 12, generator=generator())
    components = pca_components(x.double(), 4)
    assert components[:, :2].var(dim=0).tolist() == pytest.approx([1, 1])
    assert components[:, 2:].abs().max() < 1e-3
    collapsed = pca_components(torch.full((50, 12), 0.1), 3)
    assert collapsed.abs().max() == 0
    assert np.allclose(to_rgb(collapsed), 0.5)


@pytest.mark.parametrize(('patches', 'width'), [(8, 20), (20, 7)])
def test_more_components_than_there_are(patches, width):
    assert pca_components(features(patches, width), 7).shape == (patches, 7)
    with pytest.raises(InputError, match=f'{patches} patches with features of width {width} have at most 7'):
        pca_components(features(patches, width), 8)


def test_colours_span_a_fixed_range():
    rgb = to_rgb(torch.tensor([[-LIMIT, 0.0, LIMIT], [-9.0, LIMIT / 2, 9.0]]))
    np.testing.assert_allclose(rgb, [[0, 0.5, 1], [0, 0.75, 1]], atol=1e-6)
    blue, red, beyond = to_coolwarm(torch.tensor([-LIMIT, LIMIT, 9.0]))
    assert blue[2] > blue[0]
    assert red[0] > red[2]
    assert np.array_equal(red, beyond)
