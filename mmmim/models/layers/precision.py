"""The precision that a model computes in."""

from typing import Any

import torch
from torch import Tensor, nn


def in_precision_of(module: nn.Module, images: Tensor) -> Tensor:
    """Floating images in the type of a module's weights, so that ``model.half()`` takes what the model took."""
    weight = next(module.parameters())
    return images.to(weight.dtype) if images.is_floating_point() else images


class ExactBuffers(nn.Module):
    """A module whose buffers named in ``exact`` stay as precise as they are when a model is cast down.

    Rounded to 8 bits (bfloat16), frequencies turn queries by wrong angles and means shift images.
    """

    exact: tuple[str, ...] = ()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        before = {name: getattr(self, name) for name in self.exact}
        super()._apply(fn, recurse)
        for name, buffer in before.items():
            now = getattr(self, name)
            if torch.finfo(now.dtype).bits < torch.finfo(buffer.dtype).bits:
                setattr(self, name, buffer.to(now.device))
        return self
