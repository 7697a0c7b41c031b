"""The scores of all validations of a training: those of the last one, and the best."""

from __future__ import annotations

import json
import math
import os
from typing import Any

from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop

from mmmim.engine.ddp import bare_model, main_process_decides
from mmmim.registry import HOOKS
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.tables import markdown_table

#: In the work folder.
FILE = 'validations.json'


@HOOKS.register_module()
class ScoresHook(Hook):
    """Say at the end of a training what the last validation has given, and the best of all: papers report either.

    ``validations.json`` in the work folder has the scores of every validation. A training that was stopped during a
    validation repeats it when it is resumed. All processes validate with the statistics (buffers) of the first one,
    which are those that checkpoints hold.

    Args:
        prefix: What the names of scores begin with of which a higher one is better.
    """

    # After LoggerHook and the hook that saves the best checkpoint.
    priority = 'LOWEST'

    def __init__(self, prefix: str = 'accuracy/') -> None:
        self.prefix = prefix
        self.validations: list[dict[str, Any]] = []

    def before_train(self, runner: Any) -> None:
        """Read what the training that is resumed has written; repeat a validation that it has not finished."""
        self.path = os.path.join(runner.work_dir, FILE)
        known = main_process_decides(lambda: _read(self.path) if runner.iter else [])
        self.validations = [each for each in known if each['iteration'] <= runner.iter]
        if self._is_due(runner) and not any(each['iteration'] == runner.iter for each in self.validations):
            runner.val_loop.run()

    @staticmethod
    def _is_due(runner: Any) -> bool:
        """Whether the loop validates after the iteration that is resumed."""
        loop, done = runner.train_loop, runner.iter
        if not done or runner.val_loop is None or not isinstance(loop, IterBasedTrainLoop) or done < loop.val_begin:
            return False
        return done % loop.val_interval == 0 or done == loop.max_iters

    def before_val_epoch(self, runner: Any) -> None:
        """Give all processes the buffers of the first one."""
        for buffer in bare_model(runner).buffers():
            broadcast(buffer)

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Keep the scores."""
        scores = {key: float(value) for key, value in (metrics or {}).items() if key.startswith(self.prefix)}
        self.validations.append({'iteration': runner.iter, 'scores': scores})
        if is_main_process():
            try:
                write_text_atomically(json.dumps(self.validations, indent=1) + '\n', self.path)
            except InputError as error:  # the scores are in the log
                runner.logger.warning(str(error))

    def after_train(self, runner: Any) -> None:
        """Log the last and the best value of every score, and when the best was."""
        if not self.validations:
            return
        last = self.validations[-1]
        rows = []
        for name, score in last['scores'].items():
            best = max(self.validations, key=lambda each: _number(each['scores'].get(name)))
            rows.append([name, f'{score:.2f}', f'{best["scores"][name]:.2f}', str(best['iteration'])])
        table = markdown_table(['score', 'last', 'best', 'at iteration'], rows)
        runner.logger.info(
            f'Of {len(self.validations)} validations, the last at iteration {last["iteration"]}:\n{table}'
        )


def _number(score: float | None) -> float:
    return -math.inf if score is None or math.isnan(score) else score


def _read(path: str) -> list[dict[str, Any]]:
    """Validations of a file; none where it is missing or says something else."""
    try:
        with open(path, encoding='utf-8') as file:
            content = json.load(file)
    except (OSError, ValueError):
        return []
    return [
        each
        for each in (content if isinstance(content, list) else [])
        if isinstance(each, dict)
        and type(each.get('iteration')) is int
        and isinstance(each.get('scores'), dict)
        and all(type(score) in (int, float) for score in each['scores'].values())
    ]
