"""Activation checkpointing of blocks: what the backward pass recomputes instead of keeping it."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from mmmim.utils import InputError

#: What 'selective' keeps: the results of the operations that take the time.
_EXPENSIVE = (
    'mm',
    'addmm',
    'bmm',
    '_scaled_dot_product_flash_attention_for_cpu',
    '_scaled_dot_product_flash_attention',
    '_scaled_dot_product_efficient_attention',
    '_scaled_dot_product_cudnn_attention',
    '_scaled_dot_product_attention_math',
)
#: Random numbers are kept, not drawn again (they are the few indices of stochastic depth): no generator state is saved
#: and restored for every block, and compiled blocks, too, recompute with the same subset.
_RANDOM = ('randperm',)
_MODES = {'full': _RANDOM, 'selective': _EXPENSIVE + _RANDOM}
#: Where attention draws numbers, too, they are inside of its operation: everything random is drawn again.
_MODES_OF_RANDOM = {'full': (), 'selective': ('mm', 'addmm')}


def check_mode(mode: str | None) -> None:
    """Refuse an unknown mode.

    Raises:
        InputError: There is no such mode.
    """
    if mode is not None and mode not in _MODES:
        raise InputError(f"model.activation_checkpointing must be None, 'selective' or 'full', got {mode!r}.")


@cache
def _operations(names: tuple[str, ...]) -> frozenset:
    packets = [getattr(torch.ops.aten, name) for name in names if hasattr(torch.ops.aten, name)]
    return frozenset(getattr(packet, overload) for packet in packets for overload in packet.overloads())


def _policy(kept: tuple[str, ...], ctx: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if op in _operations(kept) else CheckpointPolicy.PREFER_RECOMPUTE


def _contexts(kept: tuple[str, ...]) -> Any:
    return create_selective_checkpoint_contexts(partial(_policy, kept))


_CONTEXTS = {mode: partial(_contexts, kept) for mode, kept in _MODES.items()}
_CONTEXTS_OF_RANDOM = {mode: partial(_contexts, kept) for mode, kept in _MODES_OF_RANDOM.items()}


def checkpointed(function: Callable[..., Any], mode: str, *args: Any, random: bool = False) -> Any:
    """``function(*args)``, of which the backward pass recomputes what ``mode`` does not keep.

    Args:
        function: Made of torch operations.
        mode: 'full': keep the inputs only. 'selective': keep the results of matrix products and attention, too.
        args: Tensors, tuples of tensors or None.
        random: Whether attention draws random numbers, which are inside of its operation: all are then drawn again,
            from the same state of the generator, and attention is computed again.
    """
    contexts = (_CONTEXTS_OF_RANDOM if random else _CONTEXTS)[mode]
    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=random, context_fn=contexts)


def recomputed(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)``, of which the backward pass recomputes what comes before its last operation.

    It keeps the inputs only, and stops where it has the inputs of the last operation, so that a matrix product at the
    end is not computed again. Nothing in it may draw random numbers.

    Args:
        function: Made of torch operations.
        args: Tensors that the function is called with.
    """
    return checkpoint(function, *args, use_reentrant=False, preserve_rng_state=False, determinism_check='none')
