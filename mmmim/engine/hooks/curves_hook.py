"""Pictures of the training curves in the work folder."""

from __future__ import annotations

import os
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook

from mmmim.config.hashes import curves_hash
from mmmim.evaluation.measures.expected import Band, curves_outside, read_expected
from mmmim.registry import HOOKS
from mmmim.utils import InputError
from mmmim.utils.options import Count


@HOOKS.register_module()
class CurvesHook(Hook):
    """Write ``curves.png`` into the work folder at the end of training, from the log files of all runs in it.

    What hooks logged as ``probe/...`` and ``health/...`` goes to ``probes.png`` and ``health.png``. Where the config
    has an ``expected.json`` beside it, for these very settings, the pictures show its bands, what healthy runs
    gave, and the log says at the end whether this one stayed inside (:mod:`mmmim.evaluation.measures.expected`).

    Args:
        interval: Iterations after which the pictures are written anew; None for only at the end.
    """

    # After LoggerHook has written the last values.
    priority = 'LOWEST'
    only_reports = True

    def __init__(self, interval: Count | None = None) -> None:
        self.interval = interval

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Draw, every ``interval`` iterations."""
        if self.interval is not None and self.every_n_train_iters(runner, self.interval):
            self._draw(runner)

    def after_train(self, runner: Any) -> None:
        """Draw the curves of the whole training, and say whether they are those of a healthy one."""
        self._draw(runner, ended=True)

    @master_only
    def _draw(self, runner: Any, ended: bool = False) -> None:
        from mmmim.visualization.curves import draw_pictures, read_scalars  # matplotlib

        name = os.path.basename(runner.work_dir)
        curves = read_scalars(runner.work_dir)
        if not curves:
            return
        runs, bands = _expected(runner)
        try:
            draw_pictures({name: curves}, os.path.join(runner.work_dir, 'curves.png'), title=name, bands=bands)
        except OSError as error:  # a picture must not end a training
            runner.logger.warning(f'The curves could not be drawn: {error}')
        if not (ended and bands):
            return
        if outside := curves_outside(curves, bands):
            runner.logger.warning(f'Outside what {runs} healthy runs of this config gave: {"; ".join(outside)}.')
        else:
            runner.logger.info(f'Inside what {runs} healthy runs of this config gave.')


def _expected(runner: Any) -> tuple[int, dict[str, Band]]:
    """Number of runs and bands that belong to this training; none where there are none, or other settings."""
    if not runner.cfg.filename:
        return 0, {}
    try:
        return read_expected(runner.cfg.filename, curves_hash(runner.cfg)) or (0, {})
    except InputError as error:  # must not end a training
        runner.logger.warning(str(error))
        return 0, {}
