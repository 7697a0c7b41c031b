"""The runner of mmmim: mmengine's, with safe checkpoints, distributed training on any device and clear errors."""

from __future__ import annotations

import datetime
import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

import mmengine
import torch
import torch.distributed as dist
from mmengine.device import get_device
from mmengine.dist import master_only
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner as _Runner
from mmengine.runner import weights_to_cpu
from torch import nn

import mmmim
from mmmim.engine.compile import compile_model
from mmmim.engine.ddp import bare_model
from mmmim.registry import RUNNERS
from mmmim.utils import InputError
from mmmim.utils.checkpoint import (
    find_latest_checkpoint,
    load_checkpoint_file,
    load_state_dict,
    save_checkpoint_file,
    to_plain,
)


def apply_global_batch_size(cfg: MutableMapping[str, Any], world_size: int, rank: int = 0) -> None:
    """Set the batch size of a process from ``cfg['global_batch_size']``, images per optimiser step over all processes.

    Where the number of processes does not divide it, the first processes have an image more;
    :class:`~mmmim.models.MaskedImageModeling` weighs their gradients accordingly.

    Args:
        cfg: Has ``train_dataloader`` (a dict, changed in place) and maybe ``global_batch_size``.
        world_size: Number of processes.
        rank: This process.

    Raises:
        InputError: There are fewer images than processes, or ``train_dataloader.batch_size`` says something else.
    """
    total, loader = cfg.get('global_batch_size'), cfg.get('train_dataloader')
    if total is None or not isinstance(loader, MutableMapping):
        return
    if not isinstance(total, int):
        raise InputError(f'global_batch_size must be a whole number of images, not {total!r}.')
    if total < world_size:
        raise InputError(f'global_batch_size={total} is less than an image for each of {world_size} processes (GPUs).')
    own = total // world_size + (rank < total % world_size)
    if loader.get('batch_size') not in (None, own):
        raise InputError(
            f'global_batch_size={total} means {own} images on process {rank} of {world_size}, but '
            f'train_dataloader.batch_size is {loader["batch_size"]}: set one of the two to None.'
        )
    loader['batch_size'] = own


#: Where the settings are that decide about the weights that come out of a training, and those among them that do not.
_TRAINING_KEYS = (
    'model',
    'train_dataloader',
    'global_batch_size',
    'train_cfg',
    'optim_wrapper',
    'param_scheduler',
    'default_hooks',
)
_NOT_ABOUT_WEIGHTS = re.compile(
    r'train_dataloader\.(num_workers|persistent_workers|pin_memory|prefetch_factor)$|train_cfg\.val_'
    r'|default_hooks\.(logger|checkpoint|timer|runtime_info)\.'
)


def _leaves(node: Any, prefix: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested dicts and lists."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else None
    if items is None:
        yield prefix.rstrip('.'), node
    else:
        for key, value in items:
            yield from _leaves(value, f'{prefix}{key}.')


class _ShortMessages(logging.Filter):
    """Keeps what a log file wants and a screen does not: long listings, and notes of mmengine about itself."""

    _NOTES = ('"FileClient" will be deprecated', '"HardDiskBackend" is the alias', 'Exp name: ')

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return message.count('\n') < 20 and not message.startswith(self._NOTES)


@RUNNERS.register_module()
class Runner(_Runner):
    """mmengine's runner, with these differences.

    - Checkpoints hold tensors and plain data only, are written atomically and read with ``weights_only=True``.
      ``trust_checkpoint=True`` in the config reads other files too. Loading is strict.
    - A checkpoint carries the model's config as plain data in ``checkpoint['mmmim']['model']``.
    - A resumed training takes its state from the checkpoint and its settings from the config; differences are logged.
    - ``resume='auto'`` resumes the latest checkpoint of the work folder and uses ``load_from`` where there is none.
    - ``global_batch_size`` in the config sets the batch size of a process, see :func:`apply_global_batch_size`.
    - Distributed training runs on CPUs as well (gloo).
    - ``compile=True``, or a dict of options of ``torch.compile``, compiles the blocks of the model.
    """

    optim_wrapper: Any
    param_schedulers: Any
    _left_out_reported = False

    def setup_env(self, env_cfg: dict) -> None:
        """Set up processes, and the batch size of each."""
        if self._launcher == 'pytorch' and not dist.is_initialized():
            self._check_local_rank()
            if get_device() == 'cpu':
                # mmengine calls torch.cuda.set_device before it looks for a device.
                timeout = env_cfg.get('dist_cfg', {}).get('timeout')
                dist.init_process_group('gloo', timeout=timeout and datetime.timedelta(seconds=timeout))
        super().setup_env(env_cfg)
        total = self.cfg.get('global_batch_size')
        apply_global_batch_size(
            {'global_batch_size': total, 'train_dataloader': self._train_dataloader}, self.world_size, self.rank
        )

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register ``default_hooks``; None switches any of them off (in mmengine, only its own)."""
        own = {'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'}
        super().register_default_hooks({k: v for k, v in (hooks or {}).items() if v is not None or k in own})

    @staticmethod
    def _check_local_rank() -> None:
        if 'RANK' not in os.environ:
            raise InputError("launcher 'pytorch' needs torchrun: start with tools/dist_train.sh CONFIG GPUS.")
        devices = torch.cuda.device_count()
        if 0 < devices <= int(os.environ.get('LOCAL_RANK', 0)):
            raise InputError(
                f'{os.environ.get("LOCAL_WORLD_SIZE", "More")} processes were started on this machine, which has '
                f'{devices} GPU(s): start one process per GPU.'
            )

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The logger; environment, config and the list of hooks go to the log file only."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_ShortMessages())
        logger.info(f'Log, with the config and the environment: {self.log_dir}')
        return logger

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> Any:
        """Build a data loader; settings of workers are dropped where ``num_workers`` is 0 (torch refuses them)."""
        if isinstance(dataloader, MutableMapping) and not dataloader.get('num_workers', 0):
            dataloader = {k: v for k, v in dataloader.items() if k not in ('persistent_workers', 'prefetch_factor')}
        return _Runner.build_dataloader(dataloader, seed, diff_rank_seed)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for distributed training, by default in ``mmmim.DistributedDataParallel``."""
        if self.distributed and not is_model_wrapper(model):
            if model_wrapper_cfg is None:
                model_wrapper_cfg = {
                    'type': 'mmmim.DistributedDataParallel',
                    'find_unused_parameters': self.cfg.get('find_unused_parameters', False),
                }
            if get_device() == 'cpu':
                model_wrapper_cfg = {'device_ids': None, **model_wrapper_cfg}
        return super().wrap_model(model_wrapper_cfg, model)

    def _maybe_compile(self, target: str) -> None:
        """Compile the blocks of the model, not the whole of ``target``."""
        compile_model(self.model, self.cfg.get('compile'))

    def load_or_resume(self) -> None:
        """Load weights or resume training, once."""
        if self._has_loaded:
            return
        checkpoint = self._load_from
        if self._resume == 'auto' or (self._resume and checkpoint is None):
            latest = find_latest_checkpoint(self.work_dir)
            if latest is not None:
                try:
                    self.resume(latest)
                except InputError as error:
                    others = sorted(path.name for path in Path(self.work_dir).glob('*.pth') if str(path) != latest)
                    if not others:
                        raise
                    raise InputError(
                        f'{error} Other checkpoints in {self.work_dir}: {", ".join(others)} (--resume PATH).'
                    ) from error
                return
            self.logger.info(f'Nothing to resume in {self.work_dir}: training starts fresh.')
        elif self._resume:
            self.resume(checkpoint)
            return
        elif os.path.isfile(os.path.join(self.work_dir, 'last_checkpoint')):
            self.logger.warning(
                f'{self.work_dir} holds checkpoints of an earlier training, and this one starts fresh: use --resume to '
                'continue it, or another --work-dir to keep the two apart.'
            )
        if checkpoint is not None:
            self.load_checkpoint(checkpoint)

    def load_checkpoint(
        self,
        filename: str,
        map_location: Any = 'cpu',
        strict: bool = True,
        revise_keys: list | None = None,
    ) -> dict:
        """Load the weights of a local checkpoint file into the model.

        Args:
            filename: A checkpoint or a bare state dict.
            map_location: As in ``torch.load``.
            strict: Every key must match. False ignores missing and unexpected ones.
            revise_keys: Pairs of a regular expression and its replacement, applied to the keys in the file. By default
                a leading ``module.`` is removed.

        Returns:
            The checkpoint.
        """
        checkpoint = load_checkpoint_file(filename, map_location, trust=self.cfg.get('trust_checkpoint', False))
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        saved = checkpoint.get('state_dict', checkpoint)
        metadata = getattr(saved, '_metadata', None)
        state_dict = OrderedDict(saved)
        for pattern, replacement in revise_keys or [(r'^module\.', '')]:
            state_dict = OrderedDict((re.sub(pattern, replacement, key), value) for key, value in state_dict.items())
        if metadata is not None:
            state_dict._metadata = metadata  # type: ignore[attr-defined]
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
            map_location: As in ``torch.load``. The optimiser moves its state to the parameters' device by itself.
        """
        if map_location == 'default':
            map_location = 'cpu'
        checkpoint = self.load_checkpoint(filename, map_location)
        needed = ['meta', 'message_hub', *['optimizer'] * resume_optimizer]
        needed += ['param_schedulers'] * (resume_param_scheduler and self.param_schedulers is not None)
        if missing := [key for key in needed if key not in checkpoint]:
            raise InputError(
                f'{filename} cannot be resumed: it holds no {", ".join(missing)}. To start a new training from its '
                'weights, set load_from instead.'
            )
        meta = checkpoint['meta']
        self.train_loop._epoch, self.train_loop._iter = meta['epoch'], meta['iter']
        self._resume_seed(meta.get('seed'), filename)
        dataset_meta = to_plain(getattr(self.train_dataloader.dataset, 'metainfo', None))
        if to_plain(meta.get('dataset_meta')) != dataset_meta:
            self.logger.warning(f'The metainfo of the data set differs from that in {filename}.')
        self.message_hub.load_state_dict(checkpoint['message_hub'])
        self._report_changes(checkpoint.get('mmmim', {}).get('config'), filename)
        try:
            if resume_optimizer:
                self.optim_wrapper = self.build_optim_wrapper(self.optim_wrapper)
                self._resume_optimizer(checkpoint['optimizer'])
            if resume_param_scheduler and self.param_schedulers is not None:
                self._resume_schedulers(checkpoint['param_schedulers'])
        except (ValueError, KeyError) as error:
            raise InputError(
                f'{filename} cannot be resumed: its optimiser or schedulers differ from the config ({error}). '
                'Restore the config, or start a new training from its weights with load_from.'
            ) from error
        self.logger.info(f'Resumed {filename} at epoch {self.epoch}, iteration {self.iter}.')
        if self.iter >= self.max_iters:
            self.logger.warning(f'This training is finished: raise train_cfg.max_iters ({self.max_iters}) to go on.')

    def _report_changes(self, saved: dict | None, filename: str) -> None:
        """Say which training settings differ from those of the run that is resumed."""
        if saved is None:
            return
        before, now = (dict(_leaves(config)) for config in (saved, self._training_cfg()))
        keys = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k) and not _NOT_ABOUT_WEIGHTS.match(k)]
        if keys:
            changes = [f'{key}: {before.get(key)} -> {now.get(key)}' for key in keys[:10]]
            more = [f'and {len(keys) - 10} more'] if len(keys) > 10 else []
            self.logger.warning(
                f'The config differs from that of {filename}, and decides from here on: {"; ".join(changes + more)}.'
            )

    def _training_cfg(self) -> dict:
        config = to_plain(self.cfg.to_dict())
        return {key: config[key] for key in _TRAINING_KEYS if config.get(key) is not None}

    def _resume_optimizer(self, state: dict) -> None:
        """Restore moments and steps; weight decay and the like are the config's, rates the schedulers'."""
        wrappers = self.optim_wrapper
        if not isinstance(wrappers, OptimWrapper) or not hasattr(wrappers, 'optimizer'):  # several optimisers
            wrappers.load_state_dict(state)
            return
        groups = wrappers.optimizer.param_groups
        configured = [{k: v for k, v in group.items() if k not in ('params', 'lr')} for group in groups]
        wrappers.load_state_dict(state)
        for group, options in zip(wrappers.optimizer.param_groups, configured, strict=True):
            group.update(options)

    def _resume_seed(self, seed: int | None, filename: str) -> None:
        if seed is None or seed == self.seed:
            return
        if self._randomness_cfg.get('seed') is not None:
            self.logger.warning(f'The seed of {filename}, {seed}, replaces that of the config, {self.seed}.')
        self._randomness_cfg.update(seed=seed)
        self.set_randomness(**self._randomness_cfg)
        # The loader exists already; its sampler reads the seed when it is asked for the first index.
        sampler = self.train_dataloader.sampler
        if hasattr(sampler, 'seed'):
            sampler.seed = seed

    def _resume_schedulers(self, saved: Any) -> None:
        self.param_schedulers = self.build_param_scheduler(self.param_schedulers)
        schedulers = self.param_schedulers
        groups = schedulers if isinstance(schedulers, dict) else {None: schedulers}
        saved_groups = saved if isinstance(saved, dict) else {None: saved}
        for name, group in groups.items():
            for scheduler, state in zip(group, saved_groups[name], strict=True):
                scheduler.load_state_dict(state)

    @master_only
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
        """Save a checkpoint of tensors and plain data, atomically, from the first process only.

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
        dataset_meta = getattr(self.train_dataloader.dataset, 'metainfo', None)
        meta = {
            'epoch': self.epoch + 1 if by_epoch else self.epoch,
            'iter': self.iter if by_epoch else self.iter + 1,
            'cfg': self.cfg.pretty_text,
            'seed': self.seed,
            'experiment_name': self.experiment_name,
            'time': time.strftime('%Y%m%d_%H%M%S', time.localtime()),
            'mmengine_version': mmengine.__version__,
            'mmmim_version': mmmim.__version__,
            **({} if dataset_meta is None else {'dataset_meta': dataset_meta}),
            **(meta or {}),
        }
        checkpoint: dict[str, Any] = {
            'meta': meta,
            'state_dict': weights_to_cpu(bare_model(self).state_dict()),
            'message_hub': self._message_hub_state(),
            'mmmim': {'version': 1, 'model': self._model_cfg(), 'config': self._training_cfg()},
        }
        if save_optimizer and isinstance(self.optim_wrapper, OptimWrapper):
            checkpoint['optimizer'] = self.optim_wrapper.state_dict()
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
        save_checkpoint_file(checkpoint, os.path.join(out_dir, filename))

    def _message_hub_state(self) -> dict:
        # The histories of logged values stay out: they are objects, grow with the training, and only smooth the first
        # values that are logged after resuming.
        hub = self.message_hub
        info = {key: value for key, value in hub.runtime_info.items() if hub._resumed_keys.get(key, False)}
        return {'log_scalars': {}, 'runtime_info': info, 'resumed_keys': dict.fromkeys(info, True)}

    def _model_cfg(self) -> dict | None:
        if self.cfg.get('model') is None:
            return None
        model = self.cfg.model.to_dict()
        if self.cfg.get('data_preprocessor') is not None:
            model.setdefault('data_preprocessor', self.cfg.data_preprocessor.to_dict())
        return model
