"""Checkpoints that are saved before the old ones are deleted."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook as _CheckpointHook

from mmmim.registry import HOOKS
from mmmim.utils.checkpoint import write_text_atomically


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """mmengine's hook, except that a save that fails loses nothing.

    The new checkpoint is complete before ``last_checkpoint`` names it and before an outdated or no longer best one is
    deleted; mmengine deletes first. Arguments are mmengine's; ``file_client_args`` and ``backend_args`` are not
    supported.
    """

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict) -> None:
        outdated: list[int] = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            kept = [*self.keep_ckpt_ids, step]
            outdated = kept[: -self.max_keep_ckpts]
            self.keep_ckpt_ids.append(step)  # a deque that drops the oldest by itself
            # Before saving: the list is part of the checkpoint.
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        filename = self.filename_tmpl.format(step)
        self.last_ckpt = os.path.join(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_text_atomically(self.last_ckpt, os.path.join(runner.work_dir, 'last_checkpoint'))
            for old in outdated:
                _remove(os.path.join(self.out_dir, self.filename_tmpl.format(old)))

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        # mmengine deletes the best checkpoint that it knows of before it saves a better one: it is told of none.
        previous = self._best_checkpoints()
        self._set_best_checkpoints(dict.fromkeys(self.key_indicators))
        super()._save_best_checkpoint(runner, metrics)
        current = self._best_checkpoints()
        self._set_best_checkpoints({key: current.get(key) or previous.get(key) for key in self.key_indicators})
        for key, path in previous.items():
            if path and current.get(key) and current[key] != path and is_main_process():
                _remove(path)
                runner.logger.info(f'The previous best checkpoint {path} is removed.')

    def _best_checkpoints(self) -> dict[str, str | None]:
        if len(self.key_indicators) == 1:
            return {self.key_indicators[0]: self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best_checkpoints(self, paths: dict[str, str | None]) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths[self.key_indicators[0]]
        else:
            self.best_ckpt_path_dict = paths


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.remove(path)
