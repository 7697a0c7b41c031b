"""Checkpoints that are saved before the old ones are deleted."""

from __future__ import annotations

import hashlib
import math
import os
from collections import deque
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process, master_only
from mmengine.fileio import get_file_backend
from mmengine.hooks import CheckpointHook as _CheckpointHook

from mmmim.checkpoints import load_checkpoint_file
from mmmim.checkpoints.folder import CheckpointFolder
from mmmim.registry import HOOKS
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically

from .runtime_info_hook import steps_are_lost


@HOOKS.register_module()
class CheckpointHook(_CheckpointHook):
    """mmengine's hook, except that a save that fails loses nothing and a training deletes nothing that is not its own.

    The new checkpoint is complete before ``last_checkpoint`` names it and before an outdated or no longer best one is
    deleted; mmengine deletes first. What may be deleted is what this training has written into its folder
    (:class:`mmmim.checkpoints.folder.CheckpointFolder`), whatever paths and numbers the checkpoint that is resumed
    holds. Arguments are mmengine's; ``file_client_args`` and ``backend_args`` are not supported.
    """

    def before_train(self, runner: Any) -> None:
        """Find out what this training has written before, and remove what a killed process has not got round to."""
        folder: CheckpointFolder = runner.checkpoints
        info = runner.message_hub.runtime_info
        for key in [k for k in info if k in ('keep_ckpt_ids', 'last_ckpt') or k.split('_')[:2] == ['best', 'ckpt']]:
            del info[key]
        for key in [key for key in info if key.startswith('best_score')]:
            if not isinstance(info[key], int | float) or math.isnan(info[key]):
                runner.logger.warning(f'{key} of the checkpoint is {info[key]!r}, no number: the best is found anew.')
                del info[key]
        # In the place of mmengine's, which warns of its own file client and deletes by numbers out of the checkpoint.
        self.out_dir = str(folder.path)
        self.file_backend = get_file_backend(self.out_dir)
        runner.logger.info(f'Checkpoints will be saved to {self.out_dir}.')
        if self.save_best:
            known = {} if 'auto' in self.key_indicators else {k: self._best_of(folder, k) for k in self.key_indicators}
            self._set_best_checkpoints({key: known.get(key) for key in self.key_indicators})
            if known and not any(known.values()) and any(key.startswith('best_score') for key in info):
                runner.logger.info('The best checkpoint so far lies elsewhere: a better one is saved here.')
        if self.max_keep_ckpts > 0:
            now = runner.epoch if self.by_epoch else runner.iter
            steps = [step for step in folder.steps() if step <= now]
            self.keep_ckpt_ids = deque(steps, self.max_keep_ckpts)
            if is_main_process():
                for step in steps[: -self.max_keep_ckpts]:
                    if folder.remove(self.filename_tmpl.format(step)):
                        runner.logger.info(f'Removed {self.filename_tmpl.format(step)}, which was outdated.')

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
        # In a row of steps that teach nothing, the new file does not take the place of those from before.
        outdated = [] if steps_are_lost(runner) else outdated
        if is_main_process():
            try:
                write_text_atomically(self.last_ckpt, os.path.join(runner.work_dir, 'last_checkpoint'))
            except InputError as error:  # the checkpoint is found without it
                runner.logger.warning(str(error))
            for old in outdated:
                runner.checkpoints.remove(self.filename_tmpl.format(old))

    def _save_best_checkpoint(self, runner: Any, metrics: dict) -> None:
        if not self.save_best:
            return
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])
        if missing := [key for key in self.key_indicators if key not in metrics]:
            raise InputError(
                f'save_best of the checkpoint hook is {missing[0]!r}, and the validation gives {", ".join(metrics)}: '
                'set it to one of these.'
            )
        # mmengine deletes the best checkpoint that it knows of before it saves a better one: it is told of none.
        previous = {key: self._best_of(runner.checkpoints, key) for key in self.key_indicators}
        self._set_best_checkpoints(dict.fromkeys(self.key_indicators))
        super()._save_best_checkpoint(runner, metrics)
        current = self._best_checkpoints()
        self._set_best_checkpoints({key: current.get(key) or previous.get(key) for key in self.key_indicators})
        for key, path in previous.items():
            replaced = current.get(key) not in (None, path)
            if path and replaced and is_main_process() and runner.checkpoints.remove(os.path.basename(path)):
                runner.logger.info(f'The previous best checkpoint {path} is removed.')

    @staticmethod
    def _best_of(folder: CheckpointFolder, key: str) -> str | None:
        name = folder.best(key)
        return None if name is None else str(folder.path / name)

    def _best_checkpoints(self) -> dict[str, str | None]:
        if len(self.key_indicators) == 1:
            return {self.key_indicators[0]: self.best_ckpt_path}
        return dict(self.best_ckpt_path_dict)

    def _set_best_checkpoints(self, paths: dict[str, str | None]) -> None:
        if len(self.key_indicators) == 1:
            self.best_ckpt_path = paths[self.key_indicators[0]]
        else:
            self.best_ckpt_path_dict = paths

    @master_only
    def _publish_model(self, runner: Any, ckpt_path: str | None) -> None:
        """Write the parts of a checkpoint that ``published_keys`` names beside it, under a name with its hash."""
        if ckpt_path is None or not os.path.isfile(ckpt_path):
            return
        checkpoint = load_checkpoint_file(ckpt_path)
        digest = hashlib.sha256(Path(ckpt_path).read_bytes()).hexdigest()
        stem, suffix = os.path.splitext(os.path.basename(ckpt_path))
        name = f'{stem}-{digest[:8]}{suffix}'
        runner.checkpoints.save({k: checkpoint[k] for k in self.published_keys or () if k in checkpoint}, name)
        runner.logger.info(f'The checkpoint {ckpt_path} is published as {name}.')
