"""Features in the plane, by t-SNE (van der Maaten and Hinton 2008)."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from torch import Tensor

from mmmim.utils import InputError
from mmmim.utils.names import printable

from .colours import distinct_colours

#: More classes than this have a colour bar in the place of a legend.
_MAX_LEGEND = 20
#: Of the colour bar.
_MAX_TICKS = 16
_LONGEST_NAME = 24


def tsne(features: Tensor, perplexity: float = 30.0, seed: int = 0, points: str = 'images') -> np.ndarray:
    """Coordinates in the plane, by scikit-learn's t-SNE from a PCA.

    Features are brought to length 1, so that near means what it means to the probes by nearest neighbours: cosine.

    Args:
        features: Features of n images or patches, ``[n, D]``.
        perplexity: Effective number of neighbours, from 1 to below n.
        seed: Seed of the approximation of the PCA.
        points: What messages call those whose features these are.

    Returns:
        ``[n, 2]`` fp32.

    Raises:
        InputError: The perplexity does not fit the number of features, or features are not finite or all the same.
    """
    if not 1 <= perplexity < len(features):
        raise InputError(
            f'--perplexity {perplexity:g} does not fit {len(features)} {points}: give 1 to less than their number.'
        )
    if not features.isfinite().all():
        raise InputError('Some features are not finite: the model is broken, or the images are.')
    unit = F.normalize(features.float().cpu(), dim=1)
    if bool((unit == unit[0]).all()):
        raise InputError(f'All {points} have the same feature: there is nothing to draw. The model has collapsed.')
    from sklearn.manifold import TSNE

    model = TSNE(perplexity=perplexity, init='pca', learning_rate='auto', random_state=seed)
    return model.fit_transform(unit.numpy())


def draw_tsne(
    coordinates: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    path: str | os.PathLike,
    title: str,
    caption: str,
) -> None:
    """Draw a dot per image in the colour of its class.

    Up to 20 classes are named in a legend, more by a colour bar, one alone not at all.

    Args:
        coordinates: Coordinates of n images, ``[n, 2]``.
        labels: ``[n]``, places in ``classes``.
        classes: Names of the classes.
        path: The picture to write.
        title: Title above the picture; lines that are too long are broken here.
        caption: What is to be seen, below.
    """
    width = 7.4 if len(classes) == 1 else 9.0
    figure = Figure(figsize=(width, 7.8), layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1))
    ax: Axes = figure.subplots()
    colours = distinct_colours(len(classes))
    size = float(np.clip(9000 / len(labels), 3, 40))
    # Mixed, so that no class lies on top because it is the last.
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = coordinates[order].T
    ax.scatter(x, y, s=size, c=colours[labels[order]], alpha=0.8, linewidths=0)
    ax.set_aspect('equal', 'datalim')
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_color('0.8')
    figure.supxlabel('\n'.join(textwrap.wrap(caption, 110)), fontsize=8, color='0.3')
    lines = [line for part in title.splitlines() for line in textwrap.wrap(part, 72)]
    figure.suptitle('\n'.join(lines), fontsize=11, fontweight='bold')
    names = [_shorten(name) for name in classes]
    if 1 < len(classes) <= _MAX_LEGEND:
        for name, colour in zip(names, colours, strict=True):
            ax.scatter([], [], s=36, color=colour, label=name)
        figure.legend(loc='outside right center', frameon=False, fontsize=9, title='class', handletextpad=0.2)
    elif len(classes) > _MAX_LEGEND:
        bar = figure.colorbar(ScalarMappable(cmap=ListedColormap(colours)), ax=ax, shrink=0.9, aspect=40, pad=0.02)
        shown = np.unique(np.linspace(0, len(classes) - 1, _MAX_TICKS).round().astype(int))
        bar.set_ticks((shown + 0.5) / len(classes), labels=[names[i] for i in shown])
        bar.ax.tick_params(labelsize=8, length=2)
        bar.outline.set_visible(False)
        bar.ax.set_title(f'{len(classes)} classes', fontsize=9, loc='left')
    figure.savefig(path, dpi=140)


def _shorten(name: str) -> str:
    name = printable(name)
    name = name if len(name) <= _LONGEST_NAME else f'{name[: _LONGEST_NAME - 3]}...'
    return name.replace('$', r'\$')  # no formula
