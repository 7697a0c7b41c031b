"""Patch features as colours, by their principal components (CAPI, arXiv 2502.08769, figures 7, 12 and 13)."""

from __future__ import annotations

import matplotlib
import numpy as np
import torch
from torch import Tensor

from mmmim.utils import InputError
from mmmim.utils.precision import with_float64

#: Standard deviations that the colours span, to either side of the mean.
LIMIT = 2.3


def pca_components(features: Tensor, number: int) -> Tensor:
    """Whitened principal components of features.

    The sign of a component, which PCA leaves open, is the one of positive skew, so that pictures do not flip between
    resolutions and machines.

    Args:
        features: Features of n patches, ``[n, D]``.
        number: How many components, those of the largest variance first.

    Returns:
        ``[n, number]`` in fp64, each column of mean 0 and unbiased variance 1. Columns beyond the rank of the features
        are 0.

    Raises:
        InputError: More components than ``n - 1`` or D.
    """
    patches, width = features.shape
    if number > min(patches - 1, width):
        raise InputError(
            f'{patches} patches with features of width {width} have at most {min(patches - 1, width)} principal '
            f'components, not {number}: use larger images or fewer components.'
        )
    features = with_float64(features).double()
    centred = features - features.mean(dim=0)
    variances, directions = torch.linalg.eigh(centred.T @ centred / (patches - 1))
    variances, directions = variances.flip(0)[:number], directions.flip(1)[:, :number]
    # Without variance there is nothing but rounding, which whitening would show as if it were signal.
    noise = 1e-12 * features.square().mean() * width
    scale = torch.where(variances > noise, variances.clamp_min(noise).rsqrt(), 0.0)
    components = centred @ directions * scale
    skew = components.pow(3).mean(dim=0)
    return torch.where(skew < 0, -components, components)


def to_rgb(components: Tensor) -> np.ndarray:
    """Three components ``[..., 3]`` as RGB in [0, 1], the range of +-2.3 standard deviations."""
    return (components / (2 * LIMIT) + 0.5).clamp(0, 1).numpy()


def to_coolwarm(component: Tensor) -> np.ndarray:
    """One component ``[...]`` as RGB ``[..., 3]`` in [0, 1], blue to red over +-2.3 standard deviations."""
    return matplotlib.colormaps['coolwarm']((component / (2 * LIMIT) + 0.5).clamp(0, 1).numpy())[..., :3]
