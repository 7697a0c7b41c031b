"""The runner of mmmim: mmengine's, with safe checkpoints, distributed training on any device and clear errors."""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
from collections.abc import Iterator, MutableMapping
from typing import Any

import torch
import torch.distributed as dist
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from torch import nn
from torch.utils.data import DataLoader

from mmmim.config.images import apply_images
from mmmim.datasets.image_stream import connect_stream, is_stream
from mmmim.engine.batch_size import apply_global_batch_size, check_last_batch, check_micro_batches
from mmmim.engine.checkpointing import CheckpointRunner
from mmmim.engine.compile import compile_model
from mmmim.engine.config_check import check_config
from mmmim.engine.ddp import init_process_group_on_cpu, main_process_decides
from mmmim.engine.epochs import check_batch, check_epochs
from mmmim.engine.fsdp import FSDP2Strategy
from mmmim.engine.hooks.labels_hook import LabelsHook, one_size
from mmmim.engine.misfits import log_misfits
from mmmim.engine.preemption import PreemptionHook
from mmmim.engine.reporting import keep_logging, keep_tracking, only_reports, reserve_folder
from mmmim.engine.schedules import refuse_short
from mmmim.registry import RUNNERS, STRATEGIES
from mmmim.utils import InputError, signals
from mmmim.utils.distributions import shared_packages
from mmmim.utils.folder_lock import locked
from mmmim.utils.internals import end_workers, trackers
from mmmim.utils.names import forgive_logger
from mmmim.utils.workers import outlived_by_parent

# What launchers set in the environment of each process, and how to start with them.
_LAUNCHERS = {
    'pytorch': (
        ('RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT'),
        'needs torchrun: start with tools/dist_train.sh CONFIG GPUS (tools/dist_test.sh)',
    ),
    'slurm': (
        ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_NODELIST'),
        'needs Slurm: start with tools/slurm_train.sh (tools/slurm_test.sh), or leave it out for one process',
    ),
    'mpi': (
        ('OMPI_COMM_WORLD_LOCAL_RANK', 'OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE', 'MASTER_ADDR'),
        'needs mpirun of Open MPI and MASTER_ADDR, the host of the first process; leave it out for one process',
    ),
}


class _ShortMessages(logging.Filter):
    """Keeps from a screen what only a log file wants: long listings, and a note of mmengine; never a warning."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return True
        message = record.getMessage()
        return message.count('\n') < 20 and not message.startswith('Exp name: ')


@RUNNERS.register_module()
class Runner(CheckpointRunner):
    """mmengine's runner, with these differences.

    - Checkpoints hold tensors and plain data only, are written atomically and read with ``weights_only=True``.
      ``trust_checkpoint=True`` in the config reads other files too. Loading is strict.
    - A checkpoint carries the model's config as plain data in ``checkpoint['mmmim']['model']``.
    - A resumed training takes its state from the checkpoint and its settings from the config; differences are logged.
    - ``resume='auto'`` resumes the newest checkpoint of the work folder that loads, and uses ``load_from`` where there
      is none. A folder with checkpoints of another training, or another training in it, is refused.
    - Logs, trackers and hooks that only report end no training.
    - ``images`` in the config says what images there are, see :func:`mmmim.config.images.apply_images`.
    - ``global_batch_size`` in the config sets the batch size of a process, see :func:`apply_global_batch_size`.
    - Distributed training runs on CPUs as well (gloo).
    - ``strategy=dict(type='mmmim.FSDP2Strategy')`` in the config divides the model among the processes.
    - ``compile=True``, or a dict of options of ``torch.compile``, compiles the blocks of the model.
    """

    model: Any
    _train_dataloader: Any

    @classmethod
    def from_cfg(cls, cfg: Any) -> Runner:
        """A runner of a whole config.

        Raises:
            InputError: An option means nothing, see :func:`mmmim.engine.config_check.check_config`.
        """
        apply_images(cfg)
        check_config(cfg)
        return super().from_cfg(cfg)

    def __init__(self, model: Any, work_dir: str, *args: Any, **kwargs: Any) -> None:
        try:
            os.makedirs(work_dir, exist_ok=True)
        except OSError as error:
            raise InputError(f'The work folder {work_dir} cannot be made: {(error.strerror or "").lower()}.') from error
        super().__init__(model, work_dir, *args, **kwargs)

    def setup_env(self, env_cfg: dict) -> None:
        """Set up processes, and the batch size of each."""
        self._check_launcher()
        if self._launcher == 'pytorch' and not dist.is_initialized():
            self._check_local_rank()
            if get_device() == 'cpu':
                init_process_group_on_cpu(env_cfg.get('dist_cfg', {}).get('timeout'))
        super().setup_env(env_cfg)
        self._force_lock = bool(self.cfg.pop('force_lock', False))  # of this run, not of the stored config
        # A folder for the logs of this run alone, also where another starts within the same second.
        self._timestamp = main_process_decides(lambda: reserve_folder(self.work_dir, self._timestamp))
        total = self.cfg.get('global_batch_size')
        apply_global_batch_size(
            {'global_batch_size': total, 'train_dataloader': self._train_dataloader}, self.world_size, self.rank
        )

    def register_default_hooks(self, hooks: dict | None = None) -> None:
        """Register ``default_hooks``; None switches any of them off (in mmengine, only its own)."""
        own = {'runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint'}
        # Trainings of any config end when they learn nothing any more.
        info = (hooks or {}).get('runtime_info', {'type': 'RuntimeInfoHook'})
        if isinstance(info, dict) and info.get('type') in ('RuntimeInfoHook', 'mmengine.RuntimeInfoHook'):
            hooks = {**(hooks or {}), 'runtime_info': {**info, 'type': 'mmmim.RuntimeInfoHook'}}
        super().register_default_hooks({k: v for k, v in (hooks or {}).items() if v is not None or k in own})

    def _check_launcher(self) -> None:
        """The environment that a launcher sets is there, and mmengine can use it."""
        if dist.is_initialized() or self._launcher not in _LAUNCHERS:
            return
        variables, remedy = _LAUNCHERS[self._launcher]
        if missing := [name for name in variables if not os.environ.get(name)]:
            raise InputError(
                f'launcher {self._launcher!r} (--launcher) {remedy}. The environment lacks {", ".join(missing)}.'
            )
        if self._launcher != 'pytorch' and get_device() == 'cpu':
            raise InputError(
                f'launcher {self._launcher!r} (--launcher) gives every process a GPU, and this machine has none: on '
                'CPUs start with tools/dist_train.sh CONFIG PROCESSES.'
            )

    def register_hooks(self, default_hooks: dict | None = None, custom_hooks: list | None = None) -> None:
        """Register hooks, and the one that looks at labels."""
        super().register_hooks(default_hooks, custom_hooks)
        self._labels_hook = LabelsHook()
        self.register_hook(self._labels_hook)

    @staticmethod
    def _check_local_rank() -> None:
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
            keep_logging(handler)
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_ShortMessages())
        forgive_logger(logger)
        logger.info(f'Log, with the config and the environment: {self.log_dir}')
        for sentence in shared_packages():
            logger.warning(sentence)
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Any:
        """The visualizer; what a tracker of it does wrong is a warning."""
        built = super().build_visualizer(visualizer)
        for name, backend in trackers(built).items():
            keep_tracking(name, backend, self.logger)
        return built

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call all hooks; what those that only report do wrong, once training runs, is a warning."""
        for hook in self._hooks:
            if hasattr(hook, fn_name):
                with only_reports(self, hook, fn_name):
                    getattr(hook, fn_name)(self, **kwargs)

    @staticmethod
    def build_dataloader(dataloader: Any, seed: int | None = None, diff_rank_seed: bool = False) -> Any:
        """Build a data loader.

        Settings of workers are dropped where ``num_workers`` is 0 (torch refuses them). Streams have no sampler; they
        are told the seed and how to go on.

        Raises:
            InputError: A sampler is set for a stream.
        """
        if isinstance(dataloader, MutableMapping) and not dataloader.get('num_workers', 0):
            dataloader = {k: v for k, v in dataloader.items() if k not in ('persistent_workers', 'prefetch_factor')}
        if not isinstance(dataloader, MutableMapping) or not is_stream(dataloader['dataset']):
            return outlived_by_parent(CheckpointRunner.build_dataloader(dataloader, seed, diff_rank_seed))
        if dataloader.get('sampler') is not None:
            raise InputError('A stream has an order of its own: set train_dataloader.sampler to None.')
        loader = CheckpointRunner.build_dataloader({**dataloader, 'sampler': None}, seed, diff_rank_seed)
        connect_stream(loader, None if diff_rank_seed else seed)
        return outlived_by_parent(loader)

    def build_train_loop(self, loop: Any) -> Any:
        """Build the training loop.

        Raises:
            InputError: It counts epochs, and its images never end; or its batch is far larger than the data set.
        """
        if isinstance(loop, MutableMapping):
            if isinstance(self._train_dataloader, MutableMapping):
                every = self._randomness_cfg.get('diff_rank_seed', False)
                self._train_dataloader = self.build_dataloader(self._train_dataloader, self.seed, every)
            loader = self._train_dataloader
            images = self.cfg.get('global_batch_size') or (loader.batch_size or 1) * self.world_size
            check_epochs(loop, loader, images)
            check_batch(loader, images)
            if is_main_process():
                log_misfits(self.cfg, loader, images, self.logger)
            if 'type' not in loop and 'by_epoch' not in loop:
                loop = {**loop, 'by_epoch': 'max_epochs' in loop}
        return super().build_train_loop(loop)

    def build_val_loop(self, loop: Any) -> Any:
        """Build the validation loop.

        Raises:
            InputError: Its last batch would be too small for the model.
        """
        built = super().build_val_loop(loop)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        if isinstance(getattr(built, 'dataloader', None), DataLoader):
            check_last_batch(model, built.dataloader, self.world_size)
        return built

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Wrap the model for distributed training, by default in ``mmmim.DistributedDataParallel``.

        A strategy wraps it later, when its weights are initialised. A frozen model has nothing to synchronise.
        """
        if self.distributed and not any(parameter.requires_grad for parameter in model.parameters()):
            return model.to(get_device())
        if self.distributed and self._strategy_cfg():
            self.strategy = self._build_strategy(**self._strategy_cfg())
            return model
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

    def train(self) -> nn.Module:
        """Train; SIGTERM, SIGUSR1, SIGHUP or Ctrl-C end it after its step, see :class:`PreemptionHook`.

        Raises:
            Stopped: A signal has ended the training, which is saved.
            InputError: A strategy is set and there are no processes to divide the model among.
        """
        if self._strategy_cfg() and not self.distributed:
            raise InputError(
                f'strategy.type={self._strategy_cfg()["type"]!r} divides the model among processes: start them with '
                'tools/dist_train.sh CONFIG GPUS, or set strategy.type=None.'
            )
        if not any(isinstance(hook, PreemptionHook) for hook in self.hooks):
            self.register_hook(PreemptionHook())
        with signals.training(), contextlib.ExitStack() as stack:
            main_process_decides(lambda: self._lock_folders(stack))
            self.check_fresh_start()
            if is_main_process() and (removed := self.checkpoints.clean_up()):
                self.logger.info(f'Removed what a killed process was writing: {", ".join(removed)}.')
            super().dump_config()
            with self._loading():
                return super().train()

    @contextlib.contextmanager
    def _loading(self) -> Iterator[None]:
        """Refuse images that do not stack in one sentence, and end the workers that loaded them."""
        try:
            with one_size(lambda: self._labels_hook.batch):
                yield
        finally:
            end_workers(self)

    def _lock_folders(self, stack: contextlib.ExitStack) -> None:
        """Keep other trainings out of the folders that are written to, until the stack is left."""
        try:
            self.checkpoints.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f'The folder {self.checkpoints.path} of the checkpoints cannot be made: {error}.'
            ) from error
        for folder in dict.fromkeys((os.path.realpath(self.work_dir), os.path.realpath(self.checkpoints.path))):
            stack.enter_context(locked(folder, self._force_lock))

    def dump_config(self) -> None:
        """Nothing yet: the config is written when training starts, by the run that has the folder to itself."""

    def val(self) -> dict:
        """Validate; images that do not stack are refused in one sentence."""
        with self._loading():
            return super().val()

    def test(self) -> dict:
        """Test; images that do not stack are refused in one sentence."""
        with self._loading():
            return super().test()

    def _strategy_cfg(self) -> dict[str, Any]:
        """``strategy`` of the config; empty where it has no type."""
        strategy = self.cfg.get('strategy')
        return dict(strategy) if strategy and strategy.get('type') else {}

    def _build_strategy(self, type: Any, **options: Any) -> FSDP2Strategy:
        kind = STRATEGIES.get(type) if isinstance(type, str) else type
        if kind is None or not issubclass(kind, FSDP2Strategy):
            raise InputError(
                f"strategy.type is {type!r}: it must be 'mmmim.FSDP2Strategy', or None for data parallelism."
            )
        known = [name for name in inspect.signature(kind).parameters if name != 'kwargs']
        if unknown := sorted(set(options) - set(known)):
            raise InputError(f'strategy has {", ".join(unknown)}: options of {type} are {", ".join(known)}.')
        return kind.of_runner(self, **options)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build the optimiser; where a strategy divides the parameters, of the divided ones.

        Raises:
            InputError: It asks for a GPU and there is none.
        """
        if self.strategy is None:
            try:
                return super().build_optim_wrapper(optim_wrapper)
            except InputError:
                raise
            except ValueError as error:
                raise InputError(f'optim_wrapper cannot be made: {error}.') from error
            except AssertionError as error:
                raise InputError(
                    f'optim_wrapper cannot be made: {error}. On a CPU, mixed precision is '
                    "optim_wrapper.type='mmmim.OptimWrapper' with dtype='bfloat16'."
                ) from error
        if not is_model_wrapper(self.model):
            # mmengine's runner makes the optimiser first; here the order is that of the strategies of mmengine.
            super()._init_model_weights()
            self._divide()
        self.strategy.optim_wrapper = self.strategy.build_optim_wrapper(optim_wrapper, self.model)
        return self.strategy.optim_wrapper

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build parameter schedulers: one, a list, or a dict of them by name, which configs can change one by one.

        Raises:
            InputError: A scheduler would end before it begins, such as one after a warm-up longer than the training.
        """
        if isinstance(scheduler, dict) and 'type' not in scheduler:
            scheduler = list(scheduler.values())
        try:
            return super().build_param_scheduler(self._in_epochs(scheduler))
        except ValueError as error:
            if 'end should be larger than begin' not in str(error):
                raise
            raise refuse_short(error) from error

    def _in_epochs(self, schedulers: Any) -> Any:
        """Schedulers of epochs that move in iterations, on a loop that knows how long an epoch of endless images is."""
        length = getattr(self.train_loop, 'epoch_length', None)
        if isinstance(schedulers, list | tuple) and length is not None:
            return [self._in_epochs(each) for each in schedulers]
        converted = isinstance(schedulers, MutableMapping) and schedulers.get('convert_to_iter_based')
        return {'epoch_length': length, **schedulers} if converted and length is not None else schedulers

    def _init_model_weights(self) -> None:
        if self.strategy is None:
            super()._init_model_weights()

    def _divide(self) -> None:
        """Let the strategy divide the model, unless it has."""
        if self.strategy is not None and not is_model_wrapper(self.model):
            micro_batch_size = getattr(self.model, 'micro_batch_size', None)
            check_micro_batches(self.cfg.get('global_batch_size'), micro_batch_size, self.world_size)
            self.model = self.strategy.wrap(self.model)

    def load_or_resume(self) -> None:
        """Load weights or resume training, once."""
        self._divide()
        super().load_or_resume()
