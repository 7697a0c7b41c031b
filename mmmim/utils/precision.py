"""Where a device has no float64."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Types of devices that refuse float64 (Apple's GPUs).
_WITHOUT_FLOAT64 = ('mps',)


def widest_float(device: torch.device | str) -> torch.dtype:
    """float64, or float32 on devices that refuse it; for what is summed on the device without waiting for it."""
    import torch

    return torch.float32 if torch.device(device).type in _WITHOUT_FLOAT64 else torch.float64


def with_float64(values: torch.Tensor) -> torch.Tensor:
    """The tensor where it can be float64: as it is, or on the CPU if its device refuses; for measures that need it."""
    return values.cpu() if values.device.type in _WITHOUT_FLOAT64 else values
