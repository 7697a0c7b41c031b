"""Pictures of what a segmentor predicts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmmim.engine.ddp import bare_model
from mmmim.registry import HOOKS
from mmmim.utils.options import Natural


@HOOKS.register_module()
class SegmentationPicturesHook(Hook):
    """Draw the first images of validation and test: input, label and prediction, in the colours of the data set.

    ``segmentations.png`` (of a test) and ``segmentations_<iteration>.png`` (of a validation) lie beside the log. Images
    are drawn at the size of their label maps. In several processes those of the first one are drawn. Where a test
    predicts from several blocks, one by one, there are none.

    Args:
        images: How many, at most; 0 for no pictures.
    """

    priority = 'LOWEST'
    only_reports = True

    def __init__(self, images: Natural = 8) -> None:
        self.images = images
        self._samples: list[Any] = []

    def before_val(self, runner: Any) -> None:
        """Forget the images of the last time."""
        self._samples = []

    before_test = before_val

    def after_val_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Keep label maps and predictions of the first images."""
        if len(getattr(bare_model(runner), 'layers', ())) > 1:
            return
        for sample in (outputs or [])[: self.images - len(self._samples)]:
            maps = [getattr(sample, key).data.squeeze(0).cpu().numpy() for key in ('gt_sem_seg', 'pred_sem_seg')]
            self._samples.append((sample.img_path, *maps))

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Draw the kept images of the validation."""
        self._draw(runner, runner.val_dataloader.dataset, f'_{runner.iter}', f', iteration {runner.iter}')

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Draw the kept images of the test."""
        self._draw(runner, runner.test_dataloader.dataset)

    def _draw(self, runner: Any, dataset: Any, suffix: str = '', when: str = '') -> None:
        if not self._samples or not is_main_process():
            return
        # Data sets and matplotlib take seconds to import.
        from mmmim.datasets.transforms import UnreadableImageError, read_image
        from mmmim.visualization.segmentations import Segmentation, draw_segmentations

        path = os.path.join(runner.log_dir, f'segmentations{suffix}.png')
        try:
            examples = [
                Segmentation(read_image(file), labels, predicted, os.path.splitext(os.path.basename(file))[0])
                for file, labels, predicted in self._samples
            ]
            draw_segmentations(examples, dataset.metainfo['palette'], path, f'{type(dataset).__name__}{when}')
        except (OSError, UnreadableImageError) as error:  # a picture must not end a training
            runner.logger.warning(f'No pictures of segmentations in {runner.log_dir}: {error}')
