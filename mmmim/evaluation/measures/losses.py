"""Losses on images that were not trained on."""

from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric

from mmmim.registry import METRICS


@METRICS.register_module()
class MeanLosses(BaseMetric):
    """Mean of every loss of a :class:`MaskedImageModeling` over the images of a loader.

    Targets that depend on the batch (CAPI's assignments) are those of the batches over all processes, so losses compare
    only between runs with the same batch size and number of processes.
    """

    default_prefix = ''  # names of losses need none

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the losses of a batch (one dict, see ``MaskedImageModeling.forward(mode='predict')``)."""
        (losses,) = data_samples
        images = losses['images']
        self.results.append((images, {k: float(v) for k, v in losses.items() if k != 'images'}))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Means weighted by the images of each batch."""
        total = sum(images for images, _ in results)
        return {key: sum(n * losses[key] for n, losses in results) / total for key in results[0][1]}
