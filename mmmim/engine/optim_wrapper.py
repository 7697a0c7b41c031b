"""Optimiser steps that non-finite gradients cannot spoil."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.optim import OptimWrapper as _OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from mmmim.registry import OPTIM_WRAPPERS
from mmmim.utils import InputError


@OPTIM_WRAPPERS.register_module()
class OptimWrapper(_OptimWrapper):
    """Autocast around the forward pass, and a step that is skipped on the device when a gradient is not finite.

    The decision never reaches the host: fused optimisers take a flag ``found_inf`` and leave parameters, moments and
    step counts as they are when it is set. :class:`TargetEMAHook` reads the same flag.

    Args:
        optimizer: A fused torch optimiser (``fused=True``: AdamW, Adam, SGD).
        dtype: 'bfloat16' for autocast (no loss scaling needed), None for fp32. Parameters stay fp32.
        clip_norm: Clip the gradient norm to this value; None for no clipping.

    Attributes:
        skipped: 1.0 on the device if the last step was skipped, else 0.0.
        step_info: ``grad_norm`` and ``skipped`` of the last step, for the log.

    Raises:
        InputError: The optimiser is not fused, or the type is none to autocast to.
    """

    def __init__(self, optimizer: Optimizer, dtype: str | None = None, clip_norm: float | None = None) -> None:
        super().__init__(optimizer)
        if not all(group.get('fused') for group in optimizer.param_groups):
            raise InputError(
                f'mmmim.OptimWrapper skips steps with non-finite gradients on the device, which {type(optimizer)} '
                'does only when fused: set optim_wrapper.optimizer.fused=True (AdamW, Adam and SGD have it).'
            )
        if dtype not in (None, 'bfloat16'):
            raise InputError(f"optim_wrapper.dtype must be None (fp32) or 'bfloat16', got {dtype!r}.")
        # mmengine keeps the base learning rate as a group of its own; the first group has it anyway.
        self.base_param_settings = None
        self.dtype = None if dtype is None else getattr(torch, dtype)
        self.clip_norm = clip_norm
        self.skipped: Tensor | None = None
        self.step_info: dict[str, Tensor] = {}

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast to ``dtype`` on the device of the model."""
        device = next(model.parameters()).device.type
        with torch.autocast(device, dtype=self.dtype, enabled=self.dtype is not None):
            yield

    def step(self, **kwargs: Any) -> None:
        """Clip, then step unless a gradient is not finite."""
        gradients = [p.grad for group in self.optimizer.param_groups for p in group['params'] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if hasattr(norm, 'full_tensor'):  # of gradients that are divided among processes
            norm = norm.full_tensor()
        # Ranks hold the same averaged gradients, but a rank must never step alone.
        skipped = (~torch.isfinite(norm)).float()
        all_reduce(skipped, op='max')
        if self.clip_norm is not None:
            torch._foreach_mul_(gradients, (self.clip_norm / (norm + 1e-6)).clamp(max=1.0))
        self.optimizer.found_inf = self.skipped = skipped
        self.optimizer.step(**kwargs)
        self.step_info = {'grad_norm': norm.detach(), 'skipped': skipped}
