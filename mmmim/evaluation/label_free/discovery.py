"""The one object of an image that patch features or attention show: TokenCut, LOST and DINO's attention.

Each is a function of one image and gives a mask of patches; nothing is learned. The functions follow the papers and the
fixed points of the released code: 4-connected components, and no post-processing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmmim.utils import InputError

from .unit import checked, cosines


@dataclass
class Found:
    """What was found in an image.

    Attributes:
        mask: Patches of the object, bool ``[h, w]``: one component.
        seed: Number of the patch that it grew from, row-major.
        values: What the patches were chosen by, ``[h, w]``: an entry of an eigenvector, a sum of similarities, or
            attention.
        components: All components of the patches that were chosen, numbered from 1 in row-major order of their first
            patch; 0 elsewhere, ``[h, w]``.
    """

    mask: np.ndarray
    seed: int
    values: np.ndarray
    components: np.ndarray

    @classmethod
    def of_seed(cls, chosen: np.ndarray, seed: int, values: np.ndarray) -> Found:
        """The component of the patches ``chosen [h, w]`` that holds a seed."""
        components = _components(chosen)
        return cls(components == components.flat[seed], seed, values, components)


def tokencut(
    features: np.ndarray, grid: tuple[int, int], tau: float = 0.2, eps: float = 1e-5, weighted: bool = False
) -> Found:
    """The object by a normalised cut of the graph of similar patches (TokenCut, arXiv 2202.11539, section 3).

    The eigenvector of the second smallest eigenvalue of ``(D - E) y = lambda D y`` divides the patches at its mean; the
    object is on the side of its entry of the largest magnitude. Where all patches are alike there is nothing to divide:
    the object is the whole image.

    Args:
        features: One vector of each patch, ``[N, C]``; keys of the last block in the paper.
        grid: Rows and columns of patches, ``(h, w)``.
        tau: Cosine similarity above which two patches are joined.
        eps: Weight of the others, which keeps the graph in one piece.
        weighted: Whether joined patches have their similarity as weight, instead of 1 (an ablation of the paper).

    Returns:
        ``values`` are the eigenvector, with ``y^T D y = 1`` and positive at the seed.

    Raises:
        InputError: The features are not finite or not of the grid.
    """
    features = checked(features, grid)
    similarity = cosines(features)
    weights = np.where(similarity >= tau, similarity, eps) if weighted else np.where(similarity > tau, 1.0, eps)
    weights[weights <= 0] = eps  # of features of length 0
    vector = _second_eigenvector(weights)
    seed = int(np.abs(vector).argmax())
    chosen = vector > vector.mean()
    if not chosen[seed]:
        chosen, vector = ~chosen, -vector
    return Found.of_seed(chosen.reshape(grid), seed, vector.reshape(grid))


def _components(chosen: np.ndarray) -> np.ndarray:
    """Numbers of the 4-connected components of the patches ``chosen [h, w]``, from 1 in row-major order."""
    from scipy.ndimage import label

    return label(chosen)[0]


def _second_eigenvector(weights: np.ndarray) -> np.ndarray:
    """Of the generalised problem of a graph ``[N, N]``; zeros for a graph that all cuts divide alike."""
    if np.ptp(weights) <= 1e-9 * weights.max():
        return np.zeros(len(weights))
    scale = weights.sum(axis=1) ** -0.5
    from scipy.linalg import eigh

    # The second smallest eigenvalue of I - M is the second largest of M.
    place = len(weights) - 2
    _, vectors = eigh(scale[:, None] * weights * scale, subset_by_index=[place, place])
    return scale * vectors[:, 0]


def degrees(products: np.ndarray) -> np.ndarray:
    """Number of other patches that a patch is similar to: those with a positive product of ``products [N, N]``."""
    positive = products > 0
    return positive.sum(axis=1) - positive.diagonal()


def lost(features: np.ndarray, grid: tuple[int, int], k: int = 100) -> Found:
    """The object by growing a seed, the patch that is similar to the fewest others (LOST, arXiv 2109.14279, section 3).

    Of several patches of the smallest degree the first one is the seed; the released code leaves that open.

    Args:
        features: One vector of each patch, ``[N, C]``, not brought to length 1; keys of the last block in the paper.
        grid: Rows and columns of patches, ``(h, w)``.
        k: Number of the patches of the smallest degrees, among which the seed looks for similar ones.

    Returns:
        ``values`` are the sums of products with the grown seed.

    Raises:
        InputError: The features are not finite or not of the grid.
    """
    features = checked(features, grid)
    products = features @ features.T
    order = degrees(products).argsort(kind='stable')
    seed, candidates = int(order[0]), order[:k]
    grown = candidates[products[seed, candidates] > 0]
    values = products[grown].sum(axis=0)
    chosen = values > 0
    chosen[seed] = True  # which it is but for a feature of length 0
    return Found.of_seed(chosen.reshape(grid), seed, values.reshape(grid))


def strongest(attention: np.ndarray, mass: float = 0.6) -> np.ndarray:
    """The fewest patches that hold a share of the attention, the one that crosses the limit included.

    Args:
        attention: Attention to the patches, ``[..., N]``, not negative.
        mass: The share, above 0 and up to 1.

    Returns:
        Bool ``[..., N]``.

    Raises:
        InputError: Attention is negative, not finite or nowhere.
    """
    attention = np.asarray(attention, np.float64)
    total = attention.sum(axis=-1, keepdims=True)
    if not np.isfinite(attention).all() or (attention < 0).any() or not (total > 0).all():
        raise InputError('Attention to patches must be finite, not negative and not 0 everywhere.')
    order = attention.argsort(axis=-1, kind='stable')
    risen = np.take_along_axis(attention / total, order, axis=-1).cumsum(axis=-1)
    kept = risen > 1 - mass
    kept[..., -1] = True  # the sum may end a last bit too low
    found = np.zeros_like(kept)
    np.put_along_axis(found, order, kept, axis=-1)
    return found


def largest_component(components: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
    """The component with the most patches, the first of several.

    Args:
        components: Numbers of components from 1 on, 0 elsewhere, ``[h, w]``.
        numbers: Numbers to choose from; None for all.

    Returns:
        Bool ``[h, w]``.
    """
    numbers = np.arange(1, components.max() + 1) if numbers is None else numbers
    sizes = [(components == number).sum() for number in numbers]
    return components == numbers[int(np.argmax(sizes))]


def dino_seg(attention: np.ndarray, grid: tuple[int, int], mass: float = 0.6) -> Found:
    """The object by the attention of one head, DINO's way of making masks (arXiv 2104.14294), a baseline of LOST.

    The largest component of the patches that hold 60 % of the attention. (The released code of LOST never considers the
    last component, and takes the background where there is one only.)

    Args:
        attention: Attention of a token to the patches, ``[N]``.
        grid: Rows and columns of patches, ``(h, w)``.
        mass: The share of the attention.

    Returns:
        ``seed`` is the patch with the most attention, which another component may hold.

    Raises:
        InputError: Attention is negative, not finite, nowhere, or not of the grid.
    """
    values = checked(np.asarray(attention)[:, None], grid)[:, 0]
    components = _components(strongest(values, mass).reshape(grid))
    return Found(largest_component(components), int(values.argmax()), values.reshape(grid), components)
