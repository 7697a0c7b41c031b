"""Pictures of predicted depths and surface normals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmmim.engine.ddp import bare_model
from mmmim.features.truths import map_of
from mmmim.registry import HOOKS
from mmmim.utils.options import Natural


@HOOKS.register_module()
class MapPicturesHook(Hook):
    """Draw the first images of a test: input, true map and prediction, as ``maps.png`` beside the log.

    In several processes those of the first one are drawn. Where a test predicts from several blocks, one by one, there
    are none.

    Args:
        images: How many, at most; 0 for no pictures.
    """

    priority = 'LOWEST'
    only_reports = True

    def __init__(self, images: Natural = 6) -> None:
        self.images = images
        self._maps: list[tuple[str, np.ndarray, np.ndarray]] = []

    def before_test(self, runner: Any) -> None:
        """Forget the images of the last time."""
        self._maps = []

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Keep the maps of the first images."""
        if len(getattr(bare_model(runner), 'layers', ())) > 1:
            return
        for sample in (outputs or [])[: self.images - len(self._maps)]:
            self._maps.append((sample.img_path, map_of(sample), np.asarray(sample.pred_map)))

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Draw the kept images."""
        if not self._maps or not is_main_process():
            return
        # Matplotlib takes seconds to import.
        from mmmim.datasets.transforms import UnreadableImageError, read_image
        from mmmim.visualization.value_maps import draw_value_maps

        path = os.path.join(runner.log_dir, 'maps.png')
        try:
            examples = [(read_image(file), true, found, os.path.basename(file)) for file, true, found in self._maps]
            draw_value_maps(examples, path, type(runner.test_dataloader.dataset).__name__)
        except (OSError, UnreadableImageError) as error:  # a picture must not end a test
            runner.logger.warning(f'No pictures of maps in {runner.log_dir}: {error}')
