"""Masks that ask for all patches, the visible ones too."""

from dataclasses import replace

import torch

from mmmim.registry import MASKINGS
from mmmim.structures import PatchMask

from .strategies import MaskingStrategy


@MASKINGS.register_module()
class PredictAll:
    """The masks of another strategy, of which all patches are predicted (MILAN, arXiv 2208.06049).

    For necks that predict visible patches too.

    Args:
        masking: Config of the strategy that says what is visible.
    """

    def __init__(self, masking: dict) -> None:
        self.masking: MaskingStrategy = MASKINGS.build(masking)

    def __call__(self, num_images: int, grid: tuple[int, int], rng: torch.Generator) -> PatchMask:
        """Draw the masks of a batch: ``predict [G, 1, N]``."""
        mask = self.masking(num_images, grid, rng)
        return replace(mask, predict=mask.of_all.visible.unsqueeze(1).contiguous())
