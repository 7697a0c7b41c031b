"""A masking strategy: whole rows of patches are hidden."""

import torch

from mmmim.registry import MASKINGS
from mmmim.structures import PatchMask
from mmmim.utils import InputError


@MASKINGS.register_module()
class RowMasking:
    """Some rows of patches, drawn uniformly, are visible, and all others predicted: one mask per image.

    Args:
        visible_rows: How many.
    """

    def __init__(self, visible_rows: int) -> None:
        self.visible_rows = visible_rows

    def __call__(self, num_images: int, grid: tuple[int, int], rng: torch.Generator) -> PatchMask:
        """Draw the masks of a batch.

        Args:
            num_images: B.
            grid: ``(h, w)`` in patches.
            rng: All randomness comes from it, so that runs can be repeated and resumed.

        Returns:
            ``visible [B, V]`` with ``V = visible_rows * w``, and ``predict [B, 1, N - V]``.

        Raises:
            InputError: All rows would be visible or none.
        """
        height, width = grid
        if not 0 < self.visible_rows < height:
            name = type(self).__name__
            raise InputError(
                f'{name}.visible_rows={self.visible_rows}: must be from 1 to {height - 1}, as images have {height} '
                'rows of patches.'
            )
        order = torch.rand(num_images, height, generator=rng).argsort(dim=1)
        visible, predict = (
            (rows.sort(dim=1).values.unsqueeze(-1) * width + torch.arange(width)).flatten(1)
            for rows in (order[:, : self.visible_rows], order[:, self.visible_rows :])
        )
        return PatchMask(visible, predict.unsqueeze(1), image_index=torch.arange(num_images), grid=grid)
