"""Pictures of what is found in images without labels."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmmim.registry import HOOKS
from mmmim.utils.options import Natural


@HOOKS.register_module()
class LabelFreePicturesHook(Hook):
    """Draw images of a :class:`mmmim.LabelFreeTestLoop`, with what the encoder and random weights find in them.

    They are spread evenly over the data set. ``found.png`` lies beside the log. In several processes the images of the
    first one are drawn.

    Args:
        images: How many, at most; 0 for no pictures.
    """

    priority = 'LOWEST'
    only_reports = True

    def __init__(self, images: Natural = 8) -> None:
        self.images = images
        self._samples: dict[str, list[Any]] = {}
        self._seen: Counter[str] = Counter()

    def before_test(self, runner: Any) -> None:
        """Forget the images of the last time."""
        self._samples, self._seen = {}, Counter()

    def after_test_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Keep what is found in some images, by encoder."""
        total = -(-len(runner.test_dataloader.dataset) // runner.world_size)
        for sample in outputs or []:
            name = sample.encoder
            # Of every share of the images the first one.
            if self._seen[name] * self.images % total < self.images:
                self._samples.setdefault(name, []).append(sample)
            self._seen[name] += 1

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Draw the kept images."""
        if not self._samples or not is_main_process():
            return
        # Data sets and matplotlib take seconds to import.
        from mmmim.datasets.transforms import UnreadableImageError, read_image
        from mmmim.evaluation.label_free.methods import FoundObject
        from mmmim.visualization.found import Example, draw_found_clusters, draw_objects

        path, dataset = os.path.join(runner.log_dir, 'found.png'), runner.test_dataloader.dataset
        title = f'{type(runner.test_loop.probe).__name__} on {type(dataset).__name__}'
        try:
            examples = []
            for samples in zip(*self._samples.values(), strict=True):
                name = os.path.splitext(os.path.basename(samples[0].img_path))[0]
                boxes = np.asarray(samples[0].get('gt_bboxes', []), np.float64).reshape(-1, 4)
                found = {each.encoder: each.found for each in samples}
                examples.append(Example(name, read_image(samples[0].img_path), boxes, found))
            if isinstance(next(iter(examples[0].found.values())), FoundObject):
                draw_objects(examples, path, title)
            else:
                draw_found_clusters(examples, dataset.metainfo['palette'], path, title)
        except (OSError, UnreadableImageError) as error:  # a picture must not end a test
            runner.logger.warning(f'No picture of what was found in {runner.log_dir}: {error}')
