"""Which patches are seen and which are predicted."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmmim.utils import InputError


@dataclass(frozen=True)
class PatchMask:
    """The masks of one batch, built once by the collate function.

    Legend: B images, G = B x masks per image, V visible, T target blocks, M predicted, N patches of an image.

    Attributes:
        visible: Indices of the visible patches, ``[G, V]``, int64 in ``[0, N)``, row-major over the grid.
        predict: Indices of the patches to predict, ``[G, T, M]``, int64 in ``[0, N)``.
        image_index: The image each mask belongs to, ``[G]``, int64. The masks of an image are consecutive and every
            image has as many.
        grid: ``(h, w)`` in patches, N = h * w.
        offsets: Row and column, in pixels, of every patch inside its cell, ``[B, N, 2]``, int64; None where patches
            touch each other.
    """

    visible: Tensor
    predict: Tensor
    image_index: Tensor
    grid: tuple[int, int]
    offsets: Tensor | None = None

    @property
    def num_masks(self) -> int:
        """Number of masks, G."""
        return self.visible.shape[0]

    def flat_predict(self) -> Tensor:
        """Predicted indices of all target blocks, ``[G, T*M]``."""
        return self.predict.flatten(1)

    @cached_property
    def of_predicted(self) -> PatchMask:
        """The masks of an encoder that sees the predicted patches instead, in their order."""
        return replace(self, visible=self.flat_predict())

    @cached_property
    def hidden(self) -> Tensor:
        """Indices of the patches that are not visible, ``[G, N - V]``, ascending (no host sync)."""
        number, seen = self.grid[0] * self.grid[1], self.visible.shape[1]
        marked = torch.zeros(self.num_masks, number, device=self.visible.device).scatter_(1, self.visible, 1.0)
        return marked.argsort(dim=1, stable=True)[:, : number - seen]

    @cached_property
    def of_all(self) -> PatchMask:
        """The masks of an encoder that sees all patches, in raster order."""
        every = torch.arange(self.grid[0] * self.grid[1], device=self.visible.device)
        return replace(self, visible=every.expand(self.num_masks, -1))

    def check_grid(self, size: tuple[int, int] | torch.Size, patch_size: int) -> None:
        """Refuse masks of another grid than that of the images: patches would be taken for others, or not be there.

        Args:
            size: Height and width of the images.
            patch_size: Side of a patch of the encoder.

        Raises:
            InputError: Naming both grids.
        """
        rows, columns = self.grid
        cells = size[-2] / rows, size[-1] / columns
        fits = cells == (patch_size, patch_size) if self.offsets is None else min(cells) >= patch_size
        if not fits:
            raise InputError(
                f'The masks are of {rows} x {columns} patches, and images of {size[-2]} x {size[-1]} pixels have '
                f'others of model.backbone.patch_size={patch_size}: give the collate_fn of the data loader '
                f'patch_size={patch_size}.'
            )

    def _map(self, function: Any) -> PatchMask:
        tensors = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{k: function(v) for k, v in tensors.items() if isinstance(v, Tensor)})

    def to(self, *args: Any, **kwargs: Any) -> PatchMask:
        """The same masks on another device (arguments of ``Tensor.to``)."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def pin_memory(self, device: Any = None) -> PatchMask:
        """The same masks in pinned memory; called by the data loader."""
        return self._map(lambda tensor: tensor.pin_memory())

    def images(self, start: int, stop: int, num_images: int) -> PatchMask:
        """The masks of images ``start .. stop - 1`` of a batch of ``num_images`` (no host sync)."""
        per_image = self.num_masks // num_images
        rows = slice(start * per_image, stop * per_image)
        return PatchMask(
            visible=self.visible[rows],
            predict=self.predict[rows],
            image_index=self.image_index[rows] - start,
            grid=self.grid,
            offsets=None if self.offsets is None else self.offsets[start:stop],
        )


def gather_patches(tokens: Tensor, indices: Tensor, image_index: Tensor | None = None) -> Tensor:
    """Pick patches.

    Args:
        tokens: ``[B, N, D]``.
        indices: ``[G, M]``, int64 in ``[0, N)``.
        image_index: ``[G]``, the image of each row; None means G == B in order.

    Returns:
        ``[G, M, D]``.
    """
    if image_index is None:
        return tokens.gather(1, indices.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
    return tokens[image_index.unsqueeze(1), indices]
