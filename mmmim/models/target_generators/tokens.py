"""Tokens of patches as targets (BEiT)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import PatchMask, Target
from mmmim.utils import InputError
from mmmim.utils.options import Count, Positive

from ..interfaces import Encoder, Sizes, TargetGenerator, Tokenizer, check_part, known
from ..layers import patch_grid
from ..teacher import TeacherView


@MODELS.register_module()
class TokenizerTarget(TargetGenerator):
    """What a frozen tokenizer calls the predicted patches (BEiT, arXiv 2106.08254).

    The tokenizer sees the very picture that the encoder sees, before its normalisation.

    Args:
        tokenizer: Config of a tokenizer, see :mod:`mmmim.models.tokenizers`.
        patch_size: Side of a patch in pixels.
        mean: Mean of every channel, as the data preprocessor has it.
        std: Standard deviation of every channel, as the data preprocessor has it.
        init_cfg: Must stay None; the tokenizer has its weights from a file.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        tokenizer: dict,
        patch_size: Count = 16,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[Positive] = (58.395, 57.12, 57.375),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.tokenizer = check_part(MODELS.build(tokenizer), Tokenizer, 'TokenizerTarget.tokenizer')
        self.tokenizer.requires_grad_(False)
        self.patch_size = patch_size
        #: K; necks end in as many logits.
        self.num_tokens = self.out_dim = self.tokenizer.num_tokens
        self.register_buffer('mean', torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer('std', torch.tensor(std).view(-1, 1, 1), False)
        self.eval()

    def sizes(self) -> Sizes:
        """Channels, patches, number of tokens, and the statistics of the data preprocessor."""
        return {
            'channels': ('in_channels', self.tokenizer.in_channels),
            'patch size': ('patch_size', self.patch_size),
            'prediction width': ('out_dim', self.out_dim),
            'mean': ('mean', known(self.mean)),
            'std': ('std', known(self.std)),
        }

    def train(self, mode: bool = True) -> 'TokenizerTarget':
        """Stay in eval mode."""
        return super().train(False)

    def init_weights(self) -> None:
        """Keep the weights that were loaded."""

    @torch.no_grad()
    def tokens(self, images: Tensor) -> Tensor:
        """Tokens ``[B, N]`` of all patches of normalised images ``[B, C, H, W]``."""
        with torch.autocast(images.device.type, enabled=False):
            pixels = (images.float() * self.std + self.mean) / 255
            return self.tokenizer(pixels, patch_grid(images.shape[-2:], self.patch_size))

    def forward(self, images: Tensor, mask: PatchMask, teacher: TeacherView | None, backbone: Encoder) -> Target:
        """Targets of the predicted patches.

        Args:
            images: ``[B, C, H, W]``.
            mask: What is predicted.
            teacher: Not used; every target generator takes it.
            backbone: Not used; every target generator takes it.

        Returns:
            ``patches [G, T*M]``, int64 in ``[0, K)``.

        Raises:
            InputError: Patches do not touch each other.
        """
        if mask.offsets is not None:
            raise InputError('TokenizerTarget needs patches that touch each other: set gap=0 in the collate function.')
        return Target(patches=self.tokens(images)[mask.image_index.unsqueeze(1), mask.flat_predict()])
