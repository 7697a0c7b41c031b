"""Optimiser steps that non-finite gradients cannot spoil."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper as _OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from mmmim.models.algorithms.masked_image_modeling import refuse_accumulation
from mmmim.registry import OPTIM_WRAPPERS
from mmmim.utils import InputError
from mmmim.utils.internals import foreach, overflow_flags
from mmmim.utils.options import Count, Positive, check_names


def _refuse_host_options(options: dict[str, Any]) -> None:
    """Name what takes the place of the options of mmengine's wrappers, but for those that ask for nothing."""
    refuse_accumulation(options.pop('accumulative_counts', 1))
    if (clip := options.pop('clip_grad', None)) is not None:
        norm = clip.get('max_norm') if isinstance(clip, dict) else None
        raise InputError(
            'mmmim.OptimWrapper clips the norm of all gradients by optim_wrapper.clip_norm: set clip_norm='
            f'{norm or "..."} instead of optim_wrapper.clip_grad.'
        )
    known = ('dtype', 'clip_norm', 'loss_scale', 'growth_interval', 'optimizer', 'constructor', 'paramwise_cfg')
    check_names('optim_wrapper', options, known, 'mmmim.OptimWrapper')


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(_OptimWrapper):
    """Autocast around the forward pass, and a step that is skipped on the device when a gradient is not finite.

    The decision never reaches the host: fused optimisers take a flag ``found_inf`` and leave parameters, moments and
    step counts as they are when it is set. :class:`TargetEMAHook` reads the same flag, and so does the loss scale of
    float16, which is a tensor, too.

    Args:
        optimizer: A fused torch optimiser (``fused=True``: AdamW, Adam, SGD).
        dtype: 'bfloat16' for autocast (no loss scaling needed), 'float16' for autocast with loss scaling, None for
            fp32. Parameters stay fp32.
        clip_norm: Clip the gradient norm to this value; None for no clipping.
        loss_scale: Loss scale of the first step with float16; each skipped step halves it. 'dynamic', as in mmengine,
            is the default.
        growth_interval: Steps without a skipped one that double it.
        **host: None: options of mmengine's wrappers are named with what takes their place here.

    Attributes:
        skipped: 1.0 on the device if the last step was skipped, else 0.0.
        step_info: ``grad_norm`` (of the unscaled gradients, before clipping), ``skipped`` and, with float16,
            ``loss_scale`` of the last step, for the log.

    Raises:
        InputError: The optimiser is not fused, the type is none to autocast to, or an option is mmengine's.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        dtype: str | None = None,
        clip_norm: Positive | None = None,
        loss_scale: Positive | Literal['dynamic'] = 2.0**16,
        growth_interval: Count = 2000,
        **host: Any,
    ) -> None:
        super().__init__(optimizer)
        _refuse_host_options(host)
        if not all(group.get('fused') for group in optimizer.param_groups):
            raise InputError(
                f'mmmim.OptimWrapper skips steps with non-finite gradients on the device, which {type(optimizer)} '
                'does only when fused: set optim_wrapper.optimizer.fused=True (AdamW, Adam and SGD have it).'
            )
        if dtype not in (None, 'bfloat16', 'float16'):
            raise InputError(f"optim_wrapper.dtype must be None (fp32), 'bfloat16' or 'float16', got {dtype!r}.")
        # mmengine keeps the base learning rate as a group of its own; the first group has it anyway.
        self.base_param_settings = None
        self.dtype = None if dtype is None else getattr(torch, dtype)
        self.clip_norm = clip_norm
        self.scaler: torch.amp.GradScaler | None = None
        if dtype == 'float16':
            device = optimizer.param_groups[0]['params'][0].device.type
            start = 2.0**16 if loss_scale == 'dynamic' else loss_scale
            self.scaler = torch.amp.GradScaler(device, start, growth_interval=growth_interval)
        self.skipped: Tensor | None = None
        self.step_info: dict[str, Tensor] = {}

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast to ``dtype`` on the device of the model."""
        device = next(model.parameters()).device.type
        with torch.autocast(device, dtype=self.dtype, enabled=self.dtype is not None):
            yield

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Back-propagate the (scaled) loss of a micro-batch; gradients add up until the step."""
        super().backward(loss if self.scaler is None else self.scaler.scale(loss), **kwargs)

    def step(self, **kwargs: Any) -> None:
        """Unscale and clip, then step unless a gradient is not finite."""
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        gradients = [p.grad for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if hasattr(norm, 'full_tensor'):  # of gradients that are divided among processes
            norm = norm.full_tensor()
        # Ranks hold the same averaged gradients, but a rank must never step alone.
        skipped = (~torch.isfinite(norm)).float()
        all_reduce(skipped, op='max')
        if self.clip_norm is not None:
            foreach('mul_')(gradients, (self.clip_norm / (norm + 1e-6)).clamp(max=1.0))
        self.optimizer.found_inf = self.skipped = skipped
        self.optimizer.step(**kwargs)
        self.step_info = {'grad_norm': norm.detach(), 'skipped': skipped}
        if self.scaler is not None:
            self.step_info['loss_scale'] = self.scaler.scale(torch.ones_like(skipped))
            # All ranks move their scale by the same flag. GradScaler.step is not used: it sets found_inf to its own,
            # which knows nothing of the other ranks.
            for flag in overflow_flags(self.scaler, self.optimizer):
                flag.copy_(skipped)
            self.scaler.update()

    def state_dict(self) -> dict:
        """State of the optimiser and, with float16, of the loss scale."""
        state = super().state_dict()
        return state if self.scaler is None else {**state, 'loss_scaler': self.scaler.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        """Load the state; where it has no loss scale (saved with another ``dtype``) that of the config stays."""
        state = dict(state_dict)
        scaler = state.pop('loss_scaler', None)
        super().load_state_dict(state)
        if self.scaler is not None and scaler is not None:
            # The interval is the config's, like everything that is no state.
            self.scaler.load_state_dict({**scaler, 'growth_interval': self.scaler.get_growth_interval()})
