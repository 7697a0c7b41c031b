"""Training of models that do not fit: parameters, gradients and optimiser state divided among the processes (FSDP2)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine._strategy import DDPStrategy, SingleDeviceStrategy
from mmengine.device import get_device
from mmengine.dist import get_world_size, is_main_process
from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from mmmim.engine.ddp import StepsOfModel, init_process_group_on_cpu
from mmmim.models import MaskedImageModeling
from mmmim.models.layers import blocks_of
from mmmim.registry import MODEL_WRAPPERS, STRATEGIES
from mmmim.utils import InputError
from mmmim.utils.internals import module_versions, randomness, set_module_versions


@MODEL_WRAPPERS.register_module()
class FullyShardedDataParallel(StepsOfModel, nn.Module):
    """FSDP2 as a model wrapper: every process keeps a part of each parameter, its gradient and its optimiser state.

    Each transformer block, of the student, the predictors and the teacher, is gathered when it runs and freed after
    it; everything else (patch embeddings, norms, heads, prototypes) is one more group, which stays gathered from the
    forward to the end of the backward pass. Computations are those of :class:`DistributedDataParallel`: parameters
    are gathered and gradients reduced in fp32, and lower precision is the autocast of the optimiser wrapper. Autocast
    keeps its copies of the blocks' weights until the backward pass, unless activations are checkpointed; with
    ``param_dtype`` there are none.

    A forward pass is a collective operation: all processes take the same number of them. Parts of the model are only
    called in the model's ``forward``, in its method ``targets``, or inside :meth:`gathered`.

    Args:
        module: The model with its weights, on any device.
        mesh: One dimension, over all processes.
        reduce_every_micro_batch: Reduce gradients after every micro-batch, so that no process ever holds all of them.
            False: after the last one, which communicates less and keeps the gradients of all parameters on every
            process from the first micro-batch on.
        param_dtype: 'bfloat16': gather the weights of blocks in the type of the autocast, which halves what is sent.
            Gradients are still reduced, and weights kept, in fp32; the weights of the blocks' norms are rounded in the
            computation. :meth:`gathered` then is under autocast. None: fp32.
    """

    def __init__(
        self,
        module: nn.Module,
        mesh: DeviceMesh,
        reduce_every_micro_batch: bool = True,
        param_dtype: str | None = None,
    ) -> None:
        super().__init__()
        if param_dtype not in (None, 'bfloat16'):
            raise InputError(f"strategy.param_dtype must be None (fp32) or 'bfloat16', got {param_dtype!r}.")
        self.param_dtype = None if param_dtype is None else getattr(torch, param_dtype)
        policy = MixedPrecisionPolicy()
        if self.param_dtype is not None:
            policy = MixedPrecisionPolicy(self.param_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
        for block in blocks_of(module):
            fully_shard(block, mesh=mesh, mp_policy=policy)
        self.module = fully_shard(module, mesh=mesh)
        if mesh.device_type == 'cpu':
            # Up to torch 2.8 gloo takes the mean of gradients for their sum, without a word.
            for part in (*blocks_of(module), self.module):
                part.set_force_sum_reduction_for_comms(True)
        self.reduce_every_micro_batch = reduce_every_micro_batch
        # The blocks are on their device already, without the whole model ever having been there; this moves buffers
        # and tells the data preprocessor.
        self.module.to(get_device())
        # Gathering happens in methods that FSDP knows. The first of them to be called has to be one of the whole
        # model, or FSDP would take a block for it: `_gather` does nothing else.
        self.module._gather = lambda: None
        register_fsdp_forward_method(self.module, '_gather')
        if isinstance(self.module, MaskedImageModeling):
            register_fsdp_forward_method(self.module, 'targets')

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """That of the model."""
        return self.module(*args, **kwargs)

    def _step_of_others(self, data: dict[str, Any], optim_wrapper: Any) -> dict[str, Tensor]:
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> Any:
        """That of the model."""
        with self.gathered():
            return self.module.val_step(data)

    def test_step(self, data: Any) -> Any:
        """That of the model."""
        with self.gathered():
            return self.module.test_step(data)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """For the backward passes of all micro-batches but the last, as in torch's data-parallel wrapper."""
        self.module.set_requires_gradient_sync(self.reduce_every_micro_batch)
        try:
            yield
        finally:
            self.module.set_requires_gradient_sync(True)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Let parts of the model be called directly, without gradients and by all processes alike."""
        self.module._gather()
        device = next(self.parameters()).device.type
        try:
            with torch.autocast(device, dtype=self.param_dtype, enabled=self.param_dtype is not None):
                yield
        finally:
            # Otherwise `parameters()` would be the gathered copies, and what changes them would be lost.
            self.module.reshard()


@STRATEGIES.register_module()
class FSDP2Strategy(DDPStrategy):
    """Divides parameters, gradients and optimiser state among all processes, by torch's ``fully_shard``.

    ``strategy=dict(type='mmmim.FSDP2Strategy')`` in a config makes :class:`mmmim.engine.Runner` train so, the EMA
    teacher included. Weights are initialised, or loaded, as in a single process. Checkpoints hold whole tensors in the
    layout of any other training: they resume on any number of processes, with this strategy or without.

    The whole model in fp32 has to fit into the main memory of every process when a training starts.

    Args:
        reduce_every_micro_batch: Whether gradients are reduced after every micro-batch, see
            :class:`FullyShardedDataParallel`.
        param_dtype: Type that weights of blocks are gathered in, see :class:`FullyShardedDataParallel`; the same as
            ``optim_wrapper.dtype``, or None.
        **kwargs: Further arguments of mmengine's strategies; given by a runner.
    """

    def __init__(self, *, reduce_every_micro_batch: bool = True, param_dtype: str | None = None, **kwargs: Any) -> None:
        self.reduce_every_micro_batch, self.param_dtype = reduce_every_micro_batch, param_dtype
        super().__init__(**kwargs)

    @classmethod
    def of_runner(cls, runner: Any, **options: Any) -> FSDP2Strategy:
        """The strategy in the environment, and with the log, that a :class:`mmmim.engine.Runner` has set up."""
        environment: dict[str, Any] = {'env_kwargs': {'runner': runner}, 'log_kwargs': {'logger': runner.logger}}
        return cls(work_dir=runner.work_dir, **environment, **options)

    def _setup_env(self, *, runner: Any = None, **kwargs: Any) -> None:
        if runner is None:
            super()._setup_env(**kwargs)
            return
        for name in ('launcher', 'distributed', 'rank', 'world_size', 'timestamp', 'seed'):
            setattr(self, f'_{name}', getattr(runner, name))
        self._randomness = randomness(runner)

    def build_logger(self, *args: Any, logger: MMLogger | None = None, **kwargs: Any) -> MMLogger:
        """The logger, that of the runner where there is one."""
        return super().build_logger(*args, **kwargs) if logger is None else logger

    def _setup_distributed(self, launcher: str = 'pytorch', backend: str = 'nccl', **kwargs: Any) -> None:
        if get_device() == 'cpu' and launcher == 'pytorch':
            init_process_group_on_cpu(kwargs.get('timeout'))
        super()._setup_distributed(launcher, backend, **kwargs)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        if is_model_wrapper(model):
            return model
        if not torch.distributed.is_initialized():
            raise InputError(
                'FSDP2Strategy divides a model among processes and none were started: use tools/dist_train.sh CONFIG '
                'GPUS, or leave strategy out of the config.'
            )
        if not blocks_of(model):
            self.logger.warning(
                f'FSDP2Strategy: {type(model).__name__} has no mmmim.models.layers.TransformerBlock, so it is gathered '
                'as a whole in every step: only gradients and optimiser state are divided.'
            )
        mesh = init_device_mesh(get_device().split(':')[0], (get_world_size(),))
        return FullyShardedDataParallel(model, mesh, self.reduce_every_micro_batch, self.param_dtype)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Divide a model whose weights are there among the processes.

        Raises:
            InputError: There are no processes.
        """
        self.model = self._wrap_model(model)
        return self.model

    def build_optim_wrapper(self, optim_wrapper: Any, model: nn.Module | None = None) -> Any:
        """Build the optimiser of the divided parameters.

        Raises:
            InputError: Blocks would be gathered in another type than they compute in.
        """
        built = super().build_optim_wrapper(optim_wrapper, model)
        dtype = getattr(built, 'dtype', None)
        if self.param_dtype is not None and str(dtype).removeprefix('torch.') != self.param_dtype:
            raise InputError(
                f'strategy.param_dtype={self.param_dtype!r} needs optim_wrapper.dtype={self.param_dtype!r} (--amp), '
                f'which is {dtype}.'
            )
        return built

    def model_state_dict(self) -> dict[str, Any]:
        """Whole tensors of the model on the CPU of the first process; empty on the others. All processes call it."""
        state_dict = _bare(self.model).state_dict()
        return _state_dict(_gather(state_dict), state_dict)

    def optim_state_dict(self) -> dict[str, Any]:
        """State of the optimiser, as :meth:`model_state_dict`."""
        return _gather(super().optim_state_dict())

    def divide(self, state_dict: Mapping[str, Any]) -> OrderedDict[str, Any]:
        """Whole tensors of the model as the parts that its parameters have; all processes call it."""
        own = _bare(self.model).state_dict()
        return _state_dict({key: _divide(value, own.get(key)) for key, value in state_dict.items()}, state_dict)

    def load_model_state_dict(self, state_dict: dict, *, strict: bool = False, revise_keys: list | None = None) -> None:
        """Load whole tensors into the model; all processes call it."""
        super().load_model_state_dict(
            self.divide(state_dict), strict=strict, revise_keys=revise_keys or [(r'^module\.', '')]
        )

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load whole tensors into the optimiser; all processes call it."""
        if not isinstance(getattr(self.optim_wrapper, 'optimizer', None), Optimizer):
            raise InputError('FSDP2Strategy resumes trainings with one optimiser.')
        groups = zip(state_dict['param_groups'], self.optim_wrapper.optimizer.param_groups, strict=True)
        parameters: dict[int, Tensor] = {}
        for saved, group in groups:
            parameters.update(zip(saved['params'], group['params'], strict=True))
        state = {
            index: {name: _divide(value, parameters.get(index)) for name, value in values.items()}
            for index, values in state_dict['state'].items()
        }
        super().load_optim_state_dict({**state_dict, 'state': state})

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: dict | None = None,
        callback: Callable | None = None,
    ) -> None:
        """Save one file with whole tensors from the first process; all processes call it."""
        if is_main_process():
            # Not that of DDPStrategy, which is for the first process alone.
            SingleDeviceStrategy.save_checkpoint(
                self,
                filename,
                save_optimizer=save_optimizer,
                save_param_scheduler=save_param_scheduler,
                extra_ckpt=extra_ckpt,
                callback=callback,
            )
        else:
            self.model_state_dict()
            if save_optimizer and hasattr(self, 'optim_wrapper'):
                self.optim_state_dict()


def _bare(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, FullyShardedDataParallel) else model


def _gather(tree: Any) -> Any:
    """Nested dicts and lists with whole tensors on the CPU: of the first process only, one tensor at a time."""
    if isinstance(tree, DTensor):
        whole = tree.detach().full_tensor()
        return whole.cpu() if is_main_process() else None
    if isinstance(tree, Tensor):
        return tree.detach().cpu()
    if isinstance(tree, dict):
        return {key: _gather(value) for key, value in tree.items()}
    return [_gather(value) for value in tree] if isinstance(tree, list) else tree


def _state_dict(items: Mapping[str, Any], source: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """A state dict with the versions of modules that torch keeps in an attribute of ``source``."""
    state_dict = OrderedDict(items)
    set_module_versions(state_dict, module_versions(source))
    return state_dict


def _divide(value: Any, like: Any) -> Any:
    """The part of a whole tensor that this process has of a parameter; other values as they are."""
    if not isinstance(value, Tensor) or not isinstance(like, DTensor) or value.shape != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
