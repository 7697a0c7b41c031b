"""Probes that are fitted on frozen features: k-NN and logistic regression, and their grids.

CAPI's probes (arXiv 2502.08769, table 3 and A), and DINO's k-NN of whole images. What they go through is in
:mod:`mmmim.evaluation.probes.procedure`. Legend as in ``cache.py``.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from mmengine.dist import get_dist_info, is_main_process
from torch import Tensor

from mmmim.features.cache import Samples
from mmmim.registry import PROBES
from mmmim.utils import InputError
from mmmim.utils.options import Count, Members, NonNegative, Positive
from mmmim.utils.progress import reporter

from ..measures.dense import confusion_matrix
from ..measures.jaccard import percent
from .knn import nearest_neighbours, vote
from .logistic_regression import fit_logistic_regression, predict
from .rows import Rows, Standardizer
from .weighted_knn import votes_in_chunks

#: Samples whose labels are predicted at a time.
CHUNK = 4096

#: CAPI's inverse strengths of the penalty.
PENALTIES = tuple(np.logspace(-6, 5, 8).tolist())

#: A point of a grid.
Setting = dict[str, Any]
#: What features are standardised by: all samples of the images that are not held out, once for choice, fit and test;
#: or the labelled samples of each fit, anew; or nothing.
Standardize = Literal['once', 'labelled', False]


def share(items: np.ndarray) -> np.ndarray:
    """The part of this process."""
    rank, world = get_dist_info()
    return items[len(items) * rank // world : len(items) * (rank + 1) // world]


class Probe(ABC):
    """What predicts the labels of samples from their features.

    Args:
        grid: Values of every hyper-parameter.
        standardize: What gives channels mean 0 and variance 1. 'once' as CAPI's released code does: all samples of the
            images that are not held out, also those whose label does not count, in one fit that is kept for the choice,
            the fit on all images and the test. 'labelled': the samples whose label counts, anew for every fit. False:
            features stay as they are.
    """

    #: Whether predictions are classes of whole images ``[m, R]``, the most likely first, and not one label.
    ranks = False
    #: Whether what it is fitted on is what it is asked for, each sample without itself.
    leave_one_out = False
    #: Whether it predicts values, such as depths, and not labels.
    of_values = False
    #: Scores that may choose a setting.
    criteria: tuple[str, ...] = ('mIoU', 'aAcc')
    #: Whether all processes fit it together; one that is fitted by a process alone also prints no progress.
    distributed = True

    def __init__(self, grid: dict[str, Sequence[Any]], standardize: Standardize = 'once') -> None:
        for name, values in grid.items():
            if isinstance(values, str) or not len(values):
                raise InputError(f'test_cfg.probe.{name} is a list of values to try, at least one; got {values!r}.')
        self.grid = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        self.standardize = standardize

    def check(self, samples: int) -> None:  # noqa: B027, a probe may fit any number of samples
        """Refuse settings that so many samples, or fewer, cannot be fitted with."""

    def sign(self, score: str) -> int:
        """1 for a score of which more is better, else -1."""
        return 1

    def scale_of(self, train: Samples, images: np.ndarray, device: torch.device) -> Standardizer:
        """Standardisation by all samples of some images."""
        return Standardizer(Rows(train.flat('features'), train.rows(images), device=device))

    def fit(
        self,
        train: Samples,
        images: np.ndarray,
        settings: Sequence[Setting],
        device: torch.device,
        scale: Standardizer | None = None,
    ) -> None:
        """Fit settings on the samples of some images whose majority label counts; by all processes.

        Args:
            train: Samples that ``images`` are of.
            images: Indices of the images to fit on.
            settings: Points of the grid.
            device: Device to compute on.
            scale: Standardisation that is fitted already; None: it is fitted on these samples.

        Raises:
            InputError: No sample has a label that counts.
        """
        index = train.labelled_rows(images)
        if not len(index):
            raise InputError('No sample to fit on has a label that counts: check the label maps and ignore_index.')
        if scale is None and self.standardize:
            scale = Standardizer(Rows(train.flat('features'), index, device=device))
        self.scale, self.device, self.settings = scale, device, list(settings)
        self._fit(train, index)

    def keep(self, place: int) -> None:
        """Forget all settings that it is fitted with but one."""
        self.settings = [self.settings[place]]

    def empty_table(self, samples: Samples) -> Tensor:
        """What predictions are counted in, a sum over the samples: true labels in rows, ``[K + 1, K + 1]``."""
        size = samples.num_classes + 1
        return torch.zeros(size, size, dtype=torch.int64)

    def count(self, table: Tensor, predicted: Tensor, samples: Samples, rows: np.ndarray) -> None:
        """Count predictions of samples, of which ``rows`` are the places, in a table."""
        true = torch.from_numpy(samples.flat('labels')[rows])
        named = predicted[:, :1] if self.ranks else predicted
        table += confusion_matrix(named.cpu().expand_as(true), true, len(table), (samples.ignored,))

    def scores_of(self, table: Tensor) -> dict[str, float]:
        """Scores by name, of :attr:`criteria` at least those that the samples have."""
        return percent(table)

    def _report(self, unit: str) -> Callable[[int, int], None] | None:
        return reporter(unit) if self.distributed and is_main_process() else None

    def rows(self, samples: Samples, index: np.ndarray) -> Rows:
        """Features as the probe sees them."""
        return Rows(*_loaded(samples.flat('features'), index, self.device), self.scale, self.device)

    @abstractmethod
    def _fit(self, train: Samples, index: np.ndarray) -> None:
        """Fit ``self.settings`` on samples by their places."""

    @abstractmethod
    def predict(self, queries: Samples, images: np.ndarray) -> Iterator[list[Tensor]]:
        """Labels of the samples of some images, chunk by chunk: by setting ``[m, q]``, ``[m, 1]`` or a ranking."""


@PROBES.register_module()
class KNNProbe(Probe):
    """The most frequent label of the nearest samples, for every pixel of a patch by itself.

    Labels that are ignored vote as well.

    Args:
        k: Numbers of neighbours.
        distance: One or several of the distances 'cosine' and 'l2'.
        standardize: What features are standardised by, see :class:`Probe`.
        dtype: Type of the matrix products: 'float32', or 'bfloat16' as in CAPI's own runs, faster on GPUs.

    Raises:
        InputError: There is no such type.
    """

    def __init__(
        self,
        k: Annotated[Sequence[Count], Members(1)] = (1, 3, 10, 30),
        distance: Annotated[Sequence[Literal['cosine', 'l2']], Members(1)] = ('cosine', 'l2'),
        standardize: Standardize = 'once',
        dtype: str = 'float32',
    ) -> None:
        super().__init__({'distance': distance, 'k': k}, standardize)
        if dtype not in ('float32', 'bfloat16'):
            raise InputError(f"test_cfg.probe.dtype={dtype!r}: use 'float32' or 'bfloat16'.")
        self.dtype = getattr(torch, dtype)

    def check(self, samples: int) -> None:
        """Refuse more neighbours than there are samples."""
        check_neighbours(self.grid, samples)

    def _fit(self, train: Samples, index: np.ndarray) -> None:
        self.check(len(index))
        self.database, self.num_classes = self.rows(train, index), train.num_classes
        self.labels, self.index = train.flat('labels'), torch.from_numpy(index).to(self.device)

    def predict(self, queries: Samples, images: np.ndarray) -> Iterator[list[Tensor]]:
        """Majority vote of the nearest samples, chunk by chunk: by setting ``[m, q]``, a vote per pixel."""
        distances = list(dict.fromkeys(setting['distance'] for setting in self.settings))
        k = max(setting['k'] for setting in self.settings)
        asked = self.rows(queries, queries.rows(images))
        report = self._report('samples compared with')
        near = nearest_neighbours(self.database, asked, k, distances, self.dtype, report=report)
        for start in range(0, len(asked), CHUNK):
            part = {distance: self.index[near[distance][start : start + CHUNK]] for distance in distances}
            yield [
                vote(part[setting['distance']][:, : setting['k']], self.labels, self.num_classes + 1)
                for setting in self.settings
            ]


@PROBES.register_module()
class WeightedKNNProbe(Probe):
    """DINO's k-NN of whole images (arXiv 2104.14294, section 4.1), see :mod:`mmmim.evaluation.probes.weighted_knn`.

    Of the nearest images by cosine each votes for its class with the weight ``exp(similarity / T)``; features are not
    standardised. With one neighbour that is looked for inside the test set it is the nearest neighbour of Latent MIM
    (arXiv 2407.15837, table 1).

    Args:
        k: Numbers of neighbours, of one search for the largest.
        temperature: What similarities are divided by, T.
        leave_one_out: Whether the neighbours of a test image are the other test images, and not the images of
            ``fit_dataloader``.
    """

    ranks = True

    def __init__(
        self,
        k: Annotated[Sequence[Count], Members(1)] = (10, 20, 100, 200),
        temperature: Positive = 0.07,
        leave_one_out: bool = False,
    ) -> None:
        super().__init__({'k': k}, standardize=False)
        self.temperature, self.leave_one_out = temperature, leave_one_out

    def check(self, samples: int) -> None:
        """Refuse more neighbours than there are (other) samples."""
        if self.leave_one_out:
            check_neighbours(self.grid, samples - 1, 'other test images')
        else:
            check_neighbours(self.grid, samples)

    def _fit(self, train: Samples, index: np.ndarray) -> None:
        self.check(len(index))
        self.database, self.index, self.num_classes = self.rows(train, index), index, train.num_classes
        labels = train.flat('majority')[index].astype(np.int64) - train.first
        self.labels = torch.from_numpy(labels).to(self.device)

    def predict(self, queries: Samples, images: np.ndarray) -> Iterator[list[Tensor]]:
        """Classes by their votes, chunk by chunk: by setting ``[m, min(k, K)]``."""
        rows, own = queries.rows(images), None
        if self.leave_one_out:
            places = np.searchsorted(self.index, rows).clip(max=len(self.index) - 1)
            own = torch.from_numpy(np.where(self.index[places] == rows, places, -1)).to(self.device)
        ks = [setting['k'] for setting in self.settings]
        asked, report = self.rows(queries, rows), self._report('samples compared with')
        for votes in votes_in_chunks(
            self.database, self.labels, asked, self.num_classes, ks, self.temperature, own=own, report=report
        ):
            yield [votes[k].ranked[:, :k] + queries.first for k in ks]


@PROBES.register_module()
class LogisticRegressionProbe(Probe):
    """Multinomial logistic regression on the majority labels; a patch's prediction is that of all its pixels.

    Args:
        c: Inverse strengths of the L2 penalty.
        max_iter: Most iterations of L-BFGS.
        tolerance: A fit stops when no entry of the gradient is greater, see
            :func:`mmmim.evaluation.probes.logistic_regression.fit_logistic_regression`.
        standardize: What features are standardised by, see :class:`Probe`.
    """

    def __init__(
        self,
        c: Annotated[Sequence[Positive], Members(1)] = PENALTIES,
        max_iter: Count = 1000,
        tolerance: NonNegative = 1e-12,
        standardize: Standardize = 'once',
    ) -> None:
        super().__init__({'c': c}, standardize)
        self.max_iter, self.tolerance = max_iter, tolerance

    def _fit(self, train: Samples, index: np.ndarray) -> None:
        own = share(index) if self.distributed else index
        labels = torch.from_numpy(train.flat('majority')[own]).to(self.device).long() - train.first
        c = [setting['c'] for setting in self.settings]
        self.weights = fit_logistic_regression(
            self.rows(train, own),
            labels,
            train.num_classes,
            c,
            self.max_iter,
            self.tolerance,
            distributed=self.distributed,
            report=self._report('iterations at most'),
        )

    def keep(self, place: int) -> None:
        """Forget all penalties but one."""
        super().keep(place)
        self.weights = self.weights[place : place + 1]

    def predict(self, queries: Samples, images: np.ndarray) -> Iterator[list[Tensor]]:
        """Most probable label of every sample, chunk by chunk: by setting ``[m, 1]``."""
        rows = self.rows(queries, queries.rows(images))
        for features in rows.chunks(rows.rows_per_chunk(self.weights[..., 0].numel())):
            yield [labels.unsqueeze(1) + queries.first for labels in predict(self.weights, features)]


def check_neighbours(
    grid: Sequence[Setting],
    samples: int,
    what: str = 'samples to fit on (without those of test_cfg.held_out, where they choose among several settings)',
) -> None:
    """Refuse more neighbours than there are samples.

    Raises:
        InputError: There are fewer.
    """
    if (k := max(setting['k'] for setting in grid)) > samples:
        raise InputError(
            f'test_cfg.probe.k: {k} neighbours of {samples} {what}: give values up to {samples}, or more images.'
        )


def _loaded(features: np.ndarray, index: np.ndarray, device: torch.device) -> tuple[Any, np.ndarray | None]:
    """Rows of a file on a GPU that has room for twice as many, or else where they are, to be read in every pass."""
    width = features.shape[1]
    needed = len(index) * width * features.itemsize
    if device.type != 'cuda' or 2 * needed > torch.cuda.mem_get_info(device)[0]:
        return features, index
    loaded = torch.empty(len(index), width, dtype=getattr(torch, features.dtype.name), device=device)
    for start in range(0, len(index), CHUNK):
        part = index[start : start + CHUNK]
        loaded[start : start + len(part)] = torch.from_numpy(features[part]).to(device)
    return loaded, None


def setting_text(setting: Setting) -> str:
    """Names and values."""
    return ', '.join(f'{name} {number_text(value)}' for name, value in setting.items())


def number_text(value: Any) -> str:
    """A value of a setting."""
    return f'{value:.3g}' if isinstance(value, float) else str(value)
