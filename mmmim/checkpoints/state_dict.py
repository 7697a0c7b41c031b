"""Weights against a model: names, shapes, kinds of numbers and values, before any of them is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mmmim.utils import InputError
from mmmim.utils.names import printable


def weights_of(checkpoint: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """Names and tensors of a checkpoint, or of a file that is nothing else.

    Args:
        checkpoint: Content of the file, unchanged.
        what: How messages call it, usually its path.

    Raises:
        InputError: There are no names and tensors.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    if not isinstance(weights, Mapping) or not all(isinstance(key, str) for key in weights):
        raise InputError(
            f'{what} holds no weights: state_dict is {_kind_of_value(weights)}, not names and tensors. Use another '
            'checkpoint.'
        )
    return weights


def check_state_dict(module: nn.Module, state_dict: Mapping[str, Any], what: str, same_grid: bool = False) -> None:
    """Compare a state dict with a module, strictly.

    Tables of positions that are computed, not learned (``fixed_buffers`` of a module), may have another shape: those of
    the module stay.

    Args:
        module: The module that should take it; on the meta device, too.
        state_dict: Names and tensors.
        what: How messages call the source, usually its path.
        same_grid: Whether computed tables must have the shape, too: the file is said to be of this very model.

    Raises:
        InputError: Names are missing, unexpected, or their shapes differ; or of :func:`check_values`.
    """
    own = module.state_dict()
    complaints = []
    if missing := [key for key in own if key not in state_dict]:
        complaints.append(f'{len(missing)} missing ({_few(missing)})')
    if unexpected := [key for key in state_dict if key not in own]:
        complaints.append(f'{len(unexpected)} unexpected ({_few(unexpected)})')
    fixed = set() if same_grid else _fixed(module)
    wrong = [
        f'{key}: {_shape(state_dict[key])}, the model has {_shape(value)}'
        for key, value in own.items()
        if key in state_dict and key not in fixed and _shape(state_dict[key]) != _shape(value)
    ]
    if wrong:
        complaints.append(f'{len(wrong)} of another shape ({_few(wrong, "; ")})')
    if complaints:
        raise InputError(
            f'{what} does not fit {type(module).__name__}, of {len(own)} parameters and buffers: '
            f'{", ".join(complaints)}. Use the config it was trained with, or the checkpoint of this config.'
        )
    check_values(state_dict, what, own)


def load_state_dict(module: nn.Module, state_dict: Mapping[str, Any], what: str) -> None:
    """Load a state dict strictly; arguments and errors of :func:`check_state_dict`.

    Torch decides about names and shapes first, because modules may adapt those of older versions with load hooks.
    """
    check_values(state_dict, what, module.state_dict())
    try:
        module.load_state_dict(state_dict)
    except RuntimeError as error:
        check_state_dict(module, state_dict, what)
        raise InputError(f'{what} does not fit {type(module).__name__}: {error}') from error


def check_values(state_dict: Mapping[str, Any], what: str, own: Mapping[str, Any] | None = None) -> None:
    """Refuse tensors that would be loaded without an error and be wrong.

    Reads every value once, without a copy.

    Args:
        state_dict: Names and tensors.
        what: How messages call the source.
        own: Names and tensors of the module that takes them.

    Raises:
        InputError: Something is no tensor, a tensor is not dense, has no memory of its own for every value, is of
            another kind of numbers than the module's (integers or complex numbers for floating point), or holds NaN or
            infinite values where the module has none, or values that become infinite in the module's type.
    """
    own = own or {}
    wrong = [
        f'{key} {complaint}'
        for key, value in state_dict.items()
        if not hasattr(value, 'full_tensor')  # parts of processes, which were looked at as a whole
        and (complaint := _complaint(value, own.get(key)))
    ]
    if wrong:
        raise InputError(
            f'{what} holds wrong values: {_few(wrong, "; ")}. Use an earlier checkpoint, or the file it was made from.'
        )


def _complaint(value: Any, own: Any) -> str | None:
    if not isinstance(value, Tensor):
        # Extra states of modules are what the module says.
        return None if own is not None and not isinstance(own, Tensor) else f'is {_kind_of_value(value)}, no tensor'
    if value.is_meta:  # sizes only, as in tests of models that are too large
        return None if isinstance(own, Tensor) and own.is_meta else 'has no values'
    if (layout := tensor_complaint(value)) is not None:
        return layout
    if isinstance(own, Tensor) and number_kind(value) != number_kind(own):
        return f'holds {number_kind(value)} numbers and the model has {number_kind(own)} ones'
    if not is_finite(value) and (not isinstance(own, Tensor) or own.is_meta or is_finite(own)):
        return 'holds NaN or infinite values'
    if isinstance(own, Tensor) and is_finite(value) and not stays_finite(value, own):
        return f'holds values that are too large for {own.dtype}'
    return None


def tensor_complaint(value: Tensor) -> str | None:
    """What is unusual about how a tensor is stored; None for nothing."""
    if value.layout != torch.strided or value.is_quantized:
        return f'is no dense tensor ({value.dtype}, {value.layout})'
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return f'is {list(value.shape)} large and has values for a part of it only'
    return None


def number_kind(value: Tensor) -> str:
    """Kind of the numbers of a tensor, among which nothing is converted silently."""
    if value.is_complex():
        return 'complex'
    if value.is_floating_point():
        return 'floating point'
    return 'boolean' if value.dtype == torch.bool else 'integer'


def is_finite(value: Tensor) -> bool:
    """Whether no value is NaN or infinite; all are read once, without a copy."""
    if not value.numel() or not (value.is_floating_point() or value.is_complex()):
        return True
    value = value.detach()
    if value.is_complex():
        value = torch.view_as_real(value.resolve_conj())
    low, high = torch.aminmax(value if value.element_size() > 1 else value.float())
    return bool(torch.isfinite(low) & torch.isfinite(high))


def stays_finite(value: Tensor, own: Tensor) -> bool:
    """Whether finite numbers are finite in the type of another tensor, too: not those above 3e38 in float32."""
    if not (value.is_floating_point() and own.is_floating_point()):
        return True
    narrower = torch.finfo(own.dtype).max < torch.finfo(value.dtype).max
    return not narrower or is_finite(value.detach().to(own.dtype))


def _fixed(module: nn.Module) -> set[str]:
    """Names of buffers that hold nothing learned."""
    return set(_fixed_names(module))


def _fixed_names(module: nn.Module) -> Iterator[str]:
    for name, part in module.named_modules():
        for buffer in getattr(part, 'fixed_buffers', ()):
            yield f'{name}.{buffer}'.removeprefix('.')


def _few(keys: list[str], separator: str = ', ', count: int = 5) -> str:
    return separator.join(printable(key, longest=300) for key in keys[:count]) + (
        f'{separator}...' if len(keys) > count else ''
    )


def _shape(value: Any) -> Any:
    return list(value.shape) if hasattr(value, 'shape') else type(value).__name__


def _kind_of_value(value: Any) -> str:
    return 'None' if value is None else f'a {type(value).__name__}'
