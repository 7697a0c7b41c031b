"""A test of the heads that other images have chosen."""

from __future__ import annotations

import json
import os
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.runner import TestLoop

from mmmim.evaluation.probes.head_accuracy import HeadAccuracy, best_heads
from mmmim.registry import LOOPS
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.plain import to_plain

#: Written beside the log.
FILE = 'heads.json'


@LOOPS.register_module()
class ChoosingTestLoop(TestLoop):
    """Evaluate all heads on the validation images, and test of each source the best (CAPI, arXiv 2502.08769).

    Both take place in the test, so that a checkpoint is all that it needs. ``heads.json`` beside the log has the
    accuracy of every head on both.

    Args:
        runner: The runner; its config has ``val_dataloader``, ``val_cfg`` and ``val_evaluator``.
        dataloader: Loader of the test images, or its config.
        evaluator: Evaluator of the predictions, with a :class:`mmmim.HeadAccuracy`, or its config.

    Raises:
        InputError: There are no validation images to choose on, or an evaluator has no :class:`mmmim.HeadAccuracy`.
    """

    def __init__(self, runner: Any, dataloader: Any, evaluator: Any) -> None:
        super().__init__(runner, dataloader, evaluator)
        if runner.cfg.get('val_dataloader') is None:
            raise InputError('mmmim.ChoosingTestLoop chooses heads on other images: val_dataloader=dict(...).')
        self._chooser = runner.val_loop  # built before the run, so that its labels are looked at as well
        self._metrics = [self._metric(loop, key) for loop, key in ((self._chooser, 'val'), (self, 'test'))]

    @staticmethod
    def _metric(loop: Any, key: str) -> HeadAccuracy:
        for metric in loop.evaluator.metrics:
            if isinstance(metric, HeadAccuracy):
                return metric
        raise InputError(f"mmmim.ChoosingTestLoop: {key}_evaluator needs dict(type='mmmim.HeadAccuracy').")

    @torch.no_grad()
    def _choose(self) -> None:
        """Evaluate all heads on the validation images, without the hooks of a validation, which save checkpoints."""
        model, loader, evaluator = self.runner.model, self._chooser.dataloader, self._chooser.evaluator
        self.runner.logger.info(f'Heads are chosen on {len(loader.dataset)} images of val_dataloader.')
        model.eval()
        for batch in loader:
            evaluator.process(data_samples=model.val_step(batch), data_batch=batch)
        evaluator.evaluate(len(loader.dataset))

    def run(self) -> dict[str, float]:
        """Choose and test."""
        chooser, tester = self._metrics
        self._choose()
        if is_main_process():
            tester.choice = best_heads(chooser.table)
        metrics = super().run()
        if is_main_process():
            rows = [
                {**tested, 'chosen': head in (tester.choice or {}).values(), 'val_top1': chosen['top1']}
                for head, (chosen, tested) in enumerate(zip(chooser.table, tester.table, strict=True))
            ]
            try:
                path = os.path.join(self.runner.log_dir, FILE)
                write_text_atomically(json.dumps(to_plain(rows), indent=1) + '\n', path)
            except InputError as error:  # the scores are in the log
                self.runner.logger.warning(str(error))
        return metrics
