"""Probes of values, such as depths and surface normals: ridge regression and k-NN on frozen features of patches.

Legend as in ``cache.py``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from mmengine.dist import all_reduce
from torch import Tensor

from mmmim.features.cache import Samples
from mmmim.registry import PROBES
from mmmim.utils.options import Count, Members, Positive
from mmmim.utils.precision import widest_float

from ..measures.maps import angles
from .fitted import CHUNK, Probe, Standardize, check_neighbours, share
from .knn import nearest_neighbours

#: Strengths of the penalty that are tried, beside features of variance 1.
STRENGTHS = tuple(10.0**i for i in range(-6, 3))


class ValueProbe(Probe):
    """What predicts the values ``[C]`` of a patch; hyper-parameters are chosen by the error on patches.

    A table has the number of values that are known, their squared errors and the angles, added up.
    """

    of_values = True
    criteria = ('rmse', 'angle')

    def sign(self, score: str) -> int:
        """-1, since all scores are errors."""
        return -1

    def empty_table(self, samples: Samples) -> Tensor:
        """Three zeros: number, squared errors, angles."""
        return torch.zeros(3, dtype=torch.float64)

    def count(self, table: Tensor, predicted: Tensor, samples: Samples, rows: np.ndarray) -> None:
        """Add the errors of patches whose values are known."""
        true = samples.flat('values')[rows]
        known = np.isfinite(true).all(axis=1)
        x, y = predicted.double().cpu().numpy()[known], true[known].astype(np.float64)
        angle = angles(x, y).sum() if y.shape[1] == 3 else np.nan
        table += torch.tensor([len(y), np.square(x - y).sum(axis=1).sum(), angle])

    def scores_of(self, table: Tensor) -> dict[str, float]:
        """``rmse``, of vectors that of their length, and of three channels ``angle``, the mean angle in degrees."""
        number, squares, angle = table.tolist()
        number = number or float('nan')
        return {'rmse': (squares / number) ** 0.5} | ({} if np.isnan(angle) else {'angle': angle / number})


@PROBES.register_module()
class RidgeProbe(ValueProbe):
    """Linear regression with an L2 penalty, in closed form, of the mean value of every patch.

    With standardised features X ``[m, D]`` and centred values Y it minimises ``|X W - Y|^2 / m + alpha |W|^2``:
    scikit-learn's ``Ridge(alpha=alpha * m)``, the bias free. All strengths are solved from one pass over the features,
    which sums X'X ``[D, D]`` and X'Y ``[D, C]`` in float64.

    Args:
        alpha: Strengths of the penalty.
        standardize: What features are standardised by, see :class:`mmmim.evaluation.probes.fitted.Probe`.
    """

    def __init__(
        self,
        alpha: Annotated[Sequence[Positive], Members(1)] = STRENGTHS,
        standardize: Standardize = 'once',
    ) -> None:
        super().__init__({'alpha': alpha}, standardize)

    def _fit(self, train: Samples, index: np.ndarray) -> None:
        own = share(index) if self.distributed else index
        rows = self.rows(train, own)
        wide = widest_float(self.device)
        values = torch.from_numpy(train.flat('values')[own]).to(self.device, wide)
        width, channels = rows.width, values.shape[1]
        # Columns: features, 1, values.
        sums = torch.zeros(width + 1, width + 1 + channels, dtype=wide, device=self.device)
        size = rows.rows_per_chunk(2 * (width + 1 + channels))
        parts = values.split(size) if len(values) else ()  # a process may have no rows
        for x, y in zip(rows.chunks(size), parts, strict=True):
            x = torch.cat([x.to(wide), y.new_ones(len(y), 1)], dim=1)
            sums += x.T @ torch.cat([x, y], dim=1)
        if self.distributed:
            all_reduce(sums)
        number = sums[width, width]
        means = sums[width] / number
        gram = sums[:width, :width] / number - means[:width, None] * means[:width]
        cross = sums[:width, width + 1 :] / number - means[:width, None] * means[width + 1 :]
        values_of, vectors = torch.linalg.eigh(gram)
        turned = vectors.T @ cross
        weights = []
        for setting in self.settings:
            weight = vectors @ (turned / (values_of.clamp(min=0) + setting['alpha'])[:, None])
            weights.append(torch.cat([weight, (means[width + 1 :] - means[:width] @ weight)[None]]))
        #: ``[P, D + 1, C]``, the last row the bias.
        self.weights = torch.stack(weights).to(rows.dtype)

    def predict(self, queries: Samples, images: np.ndarray) -> Iterator[list[Tensor]]:
        """Values of every sample, chunk by chunk: by setting ``[m, C]``."""
        rows = self.rows(queries, queries.rows(images))
        for x in rows.chunks():
            yield [x @ weight[:-1] + weight[-1] for weight in self.weights]


@PROBES.register_module()
class KNNRegressionProbe(ValueProbe):
    """The mean of the values of the nearest patches.

    Args:
        k: Numbers of neighbours.
        distance: One or several of the distances 'cosine' and 'l2'.
        standardize: What features are standardised by, see :class:`mmmim.evaluation.probes.fitted.Probe`.
    """

    def __init__(
        self,
        k: Annotated[Sequence[Count], Members(1)] = (1, 3, 10, 30),
        distance: Annotated[Sequence[Literal['cosine', 'l2']], Members(1)] = ('cosine', 'l2'),
        standardize: Standardize = 'once',
    ) -> None:
        super().__init__({'distance': distance, 'k': k}, standardize)

    def check(self, samples: int) -> None:
        """Refuse more neighbours than there are samples."""
        check_neighbours(self.grid, samples)

    def _fit(self, train: Samples, index: np.ndarray) -> None:
        self.check(len(index))
        self.database = self.rows(train, index)
        self.values = torch.from_numpy(train.flat('values')[index]).to(self.device)

    def predict(self, queries: Samples, images: np.ndarray) -> Iterator[list[Tensor]]:
        """Means of the nearest samples, chunk by chunk: by setting ``[m, C]``."""
        distances = list(dict.fromkeys(setting['distance'] for setting in self.settings))
        k = max(setting['k'] for setting in self.settings)
        asked: Any = self.rows(queries, queries.rows(images))
        report = self._report('samples compared with')
        near = nearest_neighbours(self.database, asked, k, distances, report=report)
        for start in range(0, len(asked), CHUNK):
            part = {distance: self.values[near[distance][start : start + CHUNK]] for distance in distances}
            yield [part[setting['distance']][:, : setting['k']].mean(dim=1) for setting in self.settings]
