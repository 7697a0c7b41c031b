"""Labels of patches carried from frame to frame by the similarity of features.

DINO (Caron et al. 2021, arXiv 2104.14294, section 4.2.1 and the released script) and, for what its options are, CRW
(Jabri et al. 2020, arXiv 2006.14613, the released code).

Legend: F frames of context, N = h x w patches, D width of the features, C channels of labels (background and objects).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from mmmim.utils import InputError
from mmmim.utils.options import Count, Natural, NonNegative, Positive

#: Bytes of similarities that are in memory at a time. What is made of them takes a few times as many.
CHUNK_BYTES = 2**26


@dataclass(frozen=True)
class Propagation:
    """How labels are carried on; the defaults are DINO's.

    Attributes:
        context: Number of frames before a frame that it takes labels from, beside the first frame.
        radius: How far away on the grid a patch may be, in patches; 0 for any distance.
        shape: Shape of the neighbourhood: 'square' (the greater of the two differences) or 'circle' (Euclidean).
        topk: Number of the most similar patches of all frames together that count.
        keep_ties: Whether patches as similar as the last of them count as well.
        temperature: Divisor of cosines in the exponential that weighs them.
        free_first: Whether the first frame is exempt from ``radius``.
        repeat_first: Whether copies of the first frame stand for those that would come before it, so that every frame
            has as many frames of context.
        min_max: Whether each object's map of a frame is stretched to [0, 1] before the greatest wins.
        first_labels: How the first annotation comes to the grid: 'nearest' (one index per patch) or 'bilinear' (shares
            of objects).
        upsample: What soft labels are resized to before the greatest wins: 'input', the frame as the encoder sees it,
            whose indices are then resized by nearest neighbours; or 'original', the size of the annotation.
    """

    context: Natural = 7
    radius: NonNegative = 12
    shape: Literal['square', 'circle'] = 'square'
    topk: Count = 5
    keep_ties: bool = True
    temperature: Positive = 0.1
    free_first: bool = False
    repeat_first: bool = False
    min_max: bool = True
    first_labels: Literal['nearest', 'bilinear'] = 'nearest'
    upsample: Literal['input', 'original'] = 'input'


class Propagator:
    """Carries labels through a video, frame by frame.

    A frame takes its labels from the first frame and from the ``context`` frames before it, with the soft labels that
    were found for these. No more frames are kept.

    Args:
        features: Features of the first frame ``[N, D]``, of any length; they are normalised here.
        labels: Labels of the first frame ``[N, C]``.
        grid: ``(h, w)`` in patches.
        how: Settings of the propagation.
        chunk_bytes: Bytes of similarities that are in memory at a time; results do not depend on it.

    Raises:
        InputError: Features are not finite.
    """

    def __init__(
        self,
        features: Tensor,
        labels: Tensor,
        grid: tuple[int, int],
        how: Propagation,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self.grid, self.how, self.chunk_bytes = grid, how, chunk_bytes
        self._first = (_unit(features), labels)
        # Where the first frame is not repeated, it stands only at the head of the context.
        self._recent = deque([self._first] * how.context if how.repeat_first else [], maxlen=how.context)

    def step(self, features: Tensor) -> Tensor:
        """Soft labels ``[N, C]`` of the next frame, from its features ``[N, D]``.

        Raises:
            InputError: Features are not finite.
        """
        query = _unit(features)
        keys, labels = (torch.stack(each) for each in zip(self._first, *self._recent, strict=True))
        found = propagate(query, keys, labels, self.grid, self.how, self.chunk_bytes)
        self._recent.append((query, found))
        return found


def propagate(
    query: Tensor,
    keys: Tensor,
    labels: Tensor,
    grid: tuple[int, int],
    how: Propagation,
    chunk_bytes: int = CHUNK_BYTES,
) -> Tensor:
    """Labels of a frame from those of other frames.

    ``label(q) = sum_s a(q, s) label(s) / sum_s a(q, s)`` with ``a(q, s) = exp(cos(q, s) / temperature)`` for the
    ``topk`` most similar patches s in the neighbourhood of q, of all frames together, and 0 for all others.

    Args:
        query: Unit vectors of the frame ``[N, D]``.
        keys: Unit vectors of the frames of context ``[F, N, D]``, those of the first frame of the video first.
        labels: Labels of the frames of context ``[F, N, C]``.
        grid: ``(h, w)`` in patches.
        how: Settings of the propagation.
        chunk_bytes: Bytes of similarities that are in memory at a time.

    Returns:
        ``[N, C]``.
    """
    number = len(query)
    size = max(1, chunk_bytes // (keys.shape[0] * number * query.element_size()))
    return torch.cat(
        [
            _propagate_chunk(query, keys, labels, grid, how, start, min(start + size, number))
            for start in range(0, number, size)
        ]
    )


def _propagate_chunk(
    query: Tensor, keys: Tensor, labels: Tensor, grid: tuple[int, int], how: Propagation, start: int, stop: int
) -> Tensor:
    """Labels of the patches from ``start`` to ``stop``, ``[stop - start, C]``."""
    free = 1 if how.free_first else 0
    parts = [(keys[:free], labels[:free], 0.0), (keys[free:], labels[free:], how.radius)]
    found = []
    for some, theirs, radius in parts:
        rows = _rows(grid, radius, start, stop)
        span = slice(rows.start * grid[1], rows.stop * grid[1])
        cosines = torch.einsum('qd,fkd->qfk', query[start:stop], some[:, span])
        if radius:
            near = _near(grid, rows, radius, how.shape, start, stop, query.device)
            cosines = cosines.masked_fill_(~near[:, None], -math.inf)
        found.append((cosines.flatten(1), theirs[:, span].flatten(0, 1)))
    cosines, theirs = torch.cat([each for each, _ in found], dim=1), torch.cat([each for _, each in found])
    weights = _weights(cosines, how)
    return weights @ theirs / weights.sum(dim=1, keepdim=True)


def _weights(cosines: Tensor, how: Propagation) -> Tensor:
    """Weights ``[q, s]`` of the most similar patches, the greatest of each row 1; 0 for all others."""
    best = cosines.topk(min(how.topk, cosines.shape[1]), dim=1)
    greatest = best.values[:, :1]
    if how.keep_ties:
        weights = torch.exp((cosines - greatest) / how.temperature)
        return weights.masked_fill_(cosines < best.values[:, -1:], 0)
    return torch.zeros_like(cosines).scatter_(1, best.indices, torch.exp((best.values - greatest) / how.temperature))


def _rows(grid: tuple[int, int], radius: float, start: int, stop: int) -> range:
    """The rows of the grid that hold the neighbourhoods of the patches from ``start`` to ``stop``."""
    height, width = grid
    if not radius:
        return range(height)
    reach = math.floor(radius)
    return range(max(start // width - reach, 0), min((stop - 1) // width + reach + 1, height))


def _near(
    grid: tuple[int, int], rows: range, radius: float, shape: str, start: int, stop: int, device: torch.device
) -> Tensor:
    """Whether patches of some rows are in the neighbourhood of those from ``start`` to ``stop``, ``[q, s]``."""
    width = grid[1]
    queries = torch.arange(start, stop, device=device)
    others = torch.arange(rows.start * width, rows.stop * width, device=device)
    down = (queries[:, None] // width - others // width).abs()
    across = (queries[:, None] % width - others % width).abs()
    if shape == 'square':
        return torch.maximum(down, across) <= radius
    return down**2 + across**2 <= radius**2


def _unit(features: Tensor) -> Tensor:
    """Features at unit length."""
    if not torch.isfinite(features).all():
        raise InputError('Features of a frame are not finite: the encoder is broken.')
    return F.normalize(features.float(), dim=-1)
