"""Checkpoints of the runner: plain data, strict, and the same whatever number of processes writes or reads them."""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from pathlib import Path
from typing import Any

import mmengine
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner as _Runner
from mmengine.runner import weights_to_cpu
from torch import Tensor
from torch.optim import Optimizer

import mmmim
from mmmim.apis.initial import start_from
from mmmim.checkpoints import check_values, load_checkpoint_file, load_state_dict, weights_of
from mmmim.checkpoints.folder import CheckpointFolder
from mmmim.checkpoints.mapped import MappedFile, forget, map_checkpoint_file
from mmmim.config.differences import describe_changes, training_config
from mmmim.engine.batch_size import describe_batch_change
from mmmim.engine.ddp import bare_model, main_process_decides
from mmmim.engine.fsdp import FSDP2Strategy
from mmmim.engine.hooks.runtime_info_hook import RuntimeInfoHook
from mmmim.engine.named_files import plain_files, strict_init_cfg, without_files
from mmmim.engine.resume_state import (
    check_optimizer,
    check_resumable,
    check_scheduler,
    kept_settings,
    parameters_without_state,
)
from mmmim.utils import InputError
from mmmim.utils.internals import is_resumed, module_versions, set_module_versions, set_position
from mmmim.utils.plain import to_plain


class CheckpointRunner(_Runner):
    """The part of :class:`mmmim.engine.Runner` that saves, loads and resumes."""

    optim_wrapper: Any
    param_schedulers: Any
    strategy: FSDP2Strategy | None = None
    _left_out_reported = False

    def __init__(self, model: Any, work_dir: str, *args: Any, **kwargs: Any) -> None:
        self._checkpoints: CheckpointFolder | None = None
        self._other_folders: dict[str, CheckpointFolder] = {}
        super().__init__(model, work_dir, *args, **kwargs)

    @property
    def checkpoints(self) -> CheckpointFolder:
        """The folder that this training saves to."""
        if self._checkpoints is None:
            hook = next((hook for hook in self._hooks if isinstance(hook, CheckpointHook)), None)
            self._checkpoints = CheckpointFolder.of_config(self.work_dir, None if hook is None else vars(hook))
        return self._checkpoints

    def check_fresh_start(self) -> None:
        """Refuse to train in a folder that holds checkpoints of another training, unless one of them is resumed.

        Raises:
            InputError: There are such checkpoints.
        """
        if self._resumes_latest or (self._resume and self._lies_in_own_folder(self._load_from)):
            return
        folder = self.checkpoints
        if used := main_process_decides(lambda: [name for name in folder.used() if not folder.owns(name)]):
            names = ', '.join(used[:3]) + (', ...' if len(used) > 3 else '')
            raise InputError(
                f'{self.checkpoints.path} holds checkpoints of an earlier training ({names}): continue it with '
                '--resume, or keep the two apart with another --work-dir. Nothing there is overwritten or deleted.'
            )

    @property
    def _resumes_latest(self) -> bool:
        return self._resume == 'auto' or bool(self._resume and self._load_from is None)

    def _lies_in_own_folder(self, path: str | None) -> bool:
        return path is not None and Path(path).resolve().parent == self.checkpoints.path.resolve()

    def build_model(self, model: Any) -> Any:
        """Build the model; files that its config names are read as plain data."""
        with plain_files(self.cfg.get('trust_checkpoint', False)):
            return super().build_model(model)

    def _init_model_weights(self) -> None:
        with plain_files(self.cfg.get('trust_checkpoint', False)), strict_init_cfg(bare_model(self)):
            super()._init_model_weights()
            if (init := self.cfg.get('init')) and (self._resumes_latest or not self._resume):
                start_from(bare_model(self), str(init['source']), init.get('weights', 'auto'))

    def load_or_resume(self) -> None:
        """Load weights or resume training, once."""
        if not self._has_loaded:
            self._load_or_resume()
        forget()  # nothing is read of files any more, whose space on the disk is kept while they are mapped

    def _load_or_resume(self) -> None:
        checkpoint = self._load_from
        if self._resumes_latest:
            trust = self.cfg.get('trust_checkpoint', False)
            latest, remarks = main_process_decides(lambda: self.checkpoints.find_latest(trust, self._check_finite))
            for remark in remarks:
                self.logger.warning(remark)
            if latest is not None:
                self.resume(latest)
                return
            self.logger.info(f'Nothing to resume in {self.checkpoints.path}: training starts fresh.')
        elif self._resume:
            self.resume(checkpoint)
            return
        if checkpoint is not None:
            self.load_checkpoint(checkpoint)

    def _check_finite(self, checkpoint: dict[str, Any], path: str) -> None:
        """Refuse a checkpoint that is whole but of a training that was lost: its weights or moments are not finite."""
        own = bare_model(self).state_dict() if self.strategy is None else {}
        weights = {key: value for key, value in weights_of(checkpoint, path).items() if key in own}
        check_values({key: value for key, value in weights.items() if isinstance(value, Tensor)}, path, own)
        optimizer = checkpoint.get('optimizer')
        state = optimizer.get('state') if isinstance(optimizer, dict) else None
        parts = state.items() if isinstance(state, dict) else ()
        moments = {f'optimizer.{n}.{key}': v for n, part in parts if isinstance(part, dict) for key, v in part.items()}
        check_values({key: value for key, value in moments.items() if isinstance(value, Tensor)}, path)

    def load_checkpoint(
        self,
        filename: str,
        map_location: Any = 'cpu',
        strict: bool = True,
        revise_keys: list | None = None,
    ) -> dict:
        """Load the weights of a local checkpoint file into the model; nothing else of the file is read.

        Args:
            filename: A checkpoint or a bare state dict.
            map_location: Where tensors are put, by default on the CPU: the argument of ``torch.load``.
            strict: Every key must match. False ignores missing and unexpected ones.
            revise_keys: Pairs of a regular expression and its replacement, applied to the keys in the file. Prefixes of
                wrappers (``module.``, ``_orig_mod.``) are gone already.

        Returns:
            The checkpoint, whose tensors are not to be changed: they may be mapped from the file.

        Raises:
            InputError: The file is missing, damaged or hostile, or its weights do not fit the model or are not finite.
        """
        trust = self.cfg.get('trust_checkpoint', False)
        if map_location != 'cpu':
            checkpoint = load_checkpoint_file(filename, map_location, trust)
            return self._load_weights(checkpoint, filename, strict, revise_keys)
        file = map_checkpoint_file(filename, trust)
        return self._load_weights(file.content(), filename, strict, revise_keys, file)

    def _load_weights(
        self,
        checkpoint: dict,
        filename: str,
        strict: bool = True,
        revise_keys: list | None = None,
        file: MappedFile | None = None,
    ) -> dict:
        """Load the weights of what was read of ``filename``, where only a part was read of the mapped ``file``."""
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        saved = weights_of(checkpoint, str(filename))
        if file is not None:
            file.use(saved.values())
        state_dict = OrderedDict(saved)
        for pattern, replacement in revise_keys or ():
            state_dict = OrderedDict((re.sub(pattern, replacement, key), value) for key, value in state_dict.items())
        set_module_versions(state_dict, module_versions(saved))
        if self.strategy is not None or not strict:
            check_values(state_dict, str(filename), bare_model(self).state_dict())
        if self.strategy is not None:
            state_dict = self.strategy.divide(state_dict)
        if strict:
            load_state_dict(bare_model(self), state_dict, str(filename))
        else:
            skipped = bare_model(self).load_state_dict(state_dict, strict=False)
            self.logger.warning(f'Not strict: {skipped}')
        self._has_loaded = True
        self.logger.info(f'Loaded the weights of {filename}.')
        return checkpoint

    def resume(
        self,
        filename: str,
        resume_optimizer: bool = True,
        resume_param_scheduler: bool = True,
        map_location: Any = 'cpu',
    ) -> None:
        """Continue the training that a checkpoint was saved in.

        Args:
            filename: A checkpoint saved during training.
            resume_optimizer: Restore the optimiser.
            resume_param_scheduler: Restore the parameter schedulers.
            map_location: Where tensors are put, the argument of ``torch.load``. The optimiser moves its state to the
                parameters' device by itself.
        """
        if map_location == 'default':
            map_location = 'cpu'
        checkpoint = load_checkpoint_file(filename, map_location, self.cfg.get('trust_checkpoint', False))
        self._load_weights(checkpoint, filename)
        needed = ['meta', 'message_hub', *['optimizer'] * resume_optimizer]
        needed += ['param_schedulers'] * (resume_param_scheduler and self.param_schedulers is not None)
        check_resumable(checkpoint, needed, filename)
        meta = checkpoint['meta']
        set_position(self.train_loop, meta['epoch'], meta['iter'])
        self._resume_seed(meta.get('seed'), filename)
        dataset = self.train_dataloader.dataset
        if to_plain(meta.get('dataset_meta')) != to_plain(getattr(dataset, 'metainfo', None)):
            note = getattr(dataset, 'NOT_EXACT', '')
            self.logger.warning(f'The metainfo of the data set differs from that in {filename}.{note}')
        self.message_hub.load_state_dict(checkpoint['message_hub'])
        self._report_changes(checkpoint.get('mmmim', {}).get('config'), filename)
        if 'global_batch_size' in meta:
            changed, words = describe_batch_change(meta, self._batch(), self.iter)
            if words:
                self.logger.log(logging.WARNING if changed else logging.INFO, words)
        try:
            if resume_optimizer:
                self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
                self._resume_optimizer(checkpoint, filename)
            if resume_param_scheduler and self.param_schedulers is not None:
                self._resume_schedulers(checkpoint['param_schedulers'], filename)
        except InputError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise InputError(
                f'{filename} cannot be resumed: its optimiser or schedulers differ from the config ({error}). '
                'Restore the config, or start a new training from its weights with load_from.'
            ) from error
        if self._lies_in_own_folder(filename):
            self.checkpoints.take_over()
        self.logger.info(f'Resumed {filename} at epoch {self.epoch}, iteration {self.iter}.')
        if self.iter >= self.max_iters:
            self.logger.warning(f'This training is finished: raise train_cfg.max_iters ({self.max_iters}) to go on.')

    def _report_changes(self, saved: dict | None, filename: str) -> None:
        """Say which training settings differ from those of the run that is resumed."""
        if saved is None:
            return
        if changes := describe_changes(saved, training_config(self.cfg)):
            self.logger.warning(
                f'The config differs from that of {filename}, and decides from here on: {"; ".join(changes)}.'
            )

    def _batch(self) -> dict[str, int]:
        """Processes, and images of a step over all of them."""
        own = getattr(self.train_dataloader, 'batch_size', None) or 0
        images = self.cfg.get('global_batch_size') or own * self.world_size
        return {'world_size': self.world_size, 'global_batch_size': images}

    def _resume_optimizer(self, checkpoint: dict, filename: str) -> None:
        """Restore moments and steps; weight decay and the like are the config's, rates the schedulers'."""
        wrappers, state = self.optim_wrapper, checkpoint['optimizer']
        without_state = checkpoint.get('mmmim', {}).get('without_state')
        several = isinstance(wrappers, OptimWrapperDict)
        for name, wrapper in wrappers.items() if several else [('', wrappers)]:
            saved = state.get(name) if several and isinstance(state, dict) else state
            if isinstance(optimizer := getattr(wrapper, 'optimizer', None), Optimizer):
                check_optimizer(saved, optimizer, bare_model(self), without_state, filename)
        load = wrappers.load_state_dict if self.strategy is None else self.strategy.load_optim_state_dict
        if not isinstance(wrappers, OptimWrapper) or not hasattr(wrappers, 'optimizer'):  # several optimisers
            load(state)
            return
        groups = wrappers.optimizer.param_groups
        configured = [{k: v for k, v in group.items() if k not in ('params', 'lr')} for group in groups]
        load(state)
        for group, options in zip(wrappers.optimizer.param_groups, configured, strict=True):
            group.update(options)

    def _resume_seed(self, seed: int | None, filename: str) -> None:
        if seed is None or seed == self.seed:
            return
        if self._randomness_cfg.get('seed') is not None:
            self.logger.warning(f'The seed of {filename}, {seed}, replaces that of the config, {self.seed}.')
        self._randomness_cfg.update(seed=seed)
        self.set_randomness(**self._randomness_cfg)
        # The loader exists already; its sampler, or a stream, reads the seed when it is asked for the first sample.
        for reader in (self.train_dataloader.sampler, self.train_dataloader.dataset):
            if 'seed' in vars(reader):
                reader.seed = seed

    def _resume_schedulers(self, saved: Any, filename: str) -> None:
        self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
        schedulers = self.param_schedulers
        groups = schedulers if isinstance(schedulers, dict) else {None: schedulers}
        saved_groups = saved if isinstance(saved, dict) else {None: saved}
        for name, group in groups.items():
            for scheduler, state in zip(group, saved_groups[name], strict=True):
                check_scheduler(state, scheduler, filename)
                if kept := kept_settings(state, scheduler):
                    self.logger.warning(
                        f'The {type(scheduler).__name__} of {scheduler.param_name} goes on as it was saved in '
                        f'{filename} and not as in the config: {kept}. For another schedule, start a new training from '
                        'these weights (load_from).'
                    )
                scheduler.load_state_dict(state)

    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Save a checkpoint of tensors and plain data, atomically, from the first process; all processes call it.

        Args:
            out_dir: A local folder.
            filename: Name of the file in it.
            file_client_args: Not supported; here because hooks pass it.
            save_optimizer: Save the optimiser.
            save_param_scheduler: Save the parameter schedulers.
            meta: Entries of ``checkpoint['meta']``.
            by_epoch: Whether the epoch or the iteration has just been completed.
            backend_args: Not supported; here because hooks pass it.
        """
        if file_client_args is not None or backend_args is not None:
            raise InputError('Checkpoints are written to local folders: remove file_client_args and backend_args.')
        for hook in self.hooks:
            if isinstance(hook, RuntimeInfoHook):
                hook.flush(self)  # a checkpoint knows of all steps before it
        save_optimizer = save_optimizer and isinstance(self.optim_wrapper, OptimWrapper)
        if self.strategy is not None:
            weights = self.strategy.model_state_dict()
            optimizer = self.strategy.optim_state_dict() if save_optimizer else None
        if not is_main_process():
            return
        if self.strategy is None:
            weights = weights_to_cpu(bare_model(self).state_dict())
            optimizer = self.optim_wrapper.state_dict() if save_optimizer else None
        dataset_meta = getattr(self.train_dataloader.dataset, 'metainfo', None)
        meta = {
            'epoch': self.epoch + 1 if by_epoch else self.epoch,
            'iter': self.iter if by_epoch else self.iter + 1,
            'cfg': self.cfg.pretty_text,
            'seed': self.seed,
            'experiment_name': self.experiment_name,
            **self._batch(),
            'time': time.strftime('%Y%m%d_%H%M%S', time.localtime()),
            'mmengine_version': mmengine.__version__,
            'mmmim_version': mmmim.__version__,
            **({} if dataset_meta is None else {'dataset_meta': dataset_meta}),
            **(meta or {}),
        }
        checkpoint: dict[str, Any] = {
            'meta': meta,
            'state_dict': weights,
            'message_hub': self._message_hub_state(),
            'mmmim': {'version': 1, 'model': self.model_cfg(), 'config': training_config(self.cfg)},
        }
        if optimizer is not None:
            checkpoint['optimizer'] = optimizer
            if 'param_groups' in optimizer:
                checkpoint['mmmim']['without_state'] = parameters_without_state(optimizer)
        if save_param_scheduler and self.param_schedulers is not None:
            schedulers = self.param_schedulers
            checkpoint['param_schedulers'] = (
                {name: [s.state_dict() for s in group] for name, group in schedulers.items()}
                if isinstance(schedulers, dict)
                else [s.state_dict() for s in schedulers]
            )
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        weights = checkpoint.pop('state_dict')  # as it is: it carries torch's version metadata
        left_out: list[str] = []
        checkpoint = to_plain(checkpoint, left_out) | {'state_dict': weights}
        if left_out and not self._left_out_reported:
            self._left_out_reported = True
            self.logger.warning(f'Checkpoints hold plain data only, so they leave out {", ".join(left_out)}.')
        if aside := self._folder(out_dir).save(checkpoint, filename):
            self.logger.warning(
                f'A file {filename} that this training has not written lay in {out_dir}: it is kept as {aside}.'
            )

    def _folder(self, path: str) -> CheckpointFolder:
        if Path(path).resolve() == self.checkpoints.path.resolve():
            return self.checkpoints
        return self._other_folders.setdefault(path, CheckpointFolder(path))

    def _message_hub_state(self) -> dict:
        # The histories of logged values stay out: they are objects and grow with the training. RuntimeInfoHook adds
        # what of them is still averaged.
        hub = self.message_hub
        info = {key: value for key, value in hub.runtime_info.items() if is_resumed(hub, key)}
        return {'log_scalars': {}, 'runtime_info': info, 'resumed_keys': dict.fromkeys(info, True)}

    def model_cfg(self) -> dict | None:
        """Config of the model as checkpoints carry it, before it is made plain; None where it is no config."""
        if self.cfg.get('model') is None:
            return None
        model = without_files(self.cfg.model.to_dict())
        if self.cfg.get('data_preprocessor') is not None:
            model.setdefault('data_preprocessor', self.cfg.data_preprocessor.to_dict())
        return model
