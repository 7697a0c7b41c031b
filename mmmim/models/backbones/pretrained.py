"""A pre-trained encoder as a backbone of mmpretrain or mmsegmentation."""

from collections.abc import Sequence

import torch
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context
from mmmim.utils.checkpoint import load_state_dict
from mmmim.utils.pretrained import load_pretrained

from ..layers import patch_grid
from .vit import layer_index


def layer_tokens(backbone: nn.Module, context: Context) -> list[Tensor]:
    """Final-normed states of the kept layers, extra tokens first: each ``[B, E + N, D]``."""
    return [backbone.norm(state) for state in context.hidden]


@MODELS.register_module()
class PretrainedBackbone(BaseModule):
    """The encoder of a checkpoint, rebuilt from the config in it, giving feature maps.

    Maps follow the convention of mmpretrain and mmsegmentation: a tuple of ``[B, D, h, w]``, one per ``out_indices``,
    final-normed, without registers. Any image size divisible by the patch size works.

    Args:
        checkpoint: Training checkpoint of mmmim or converted file.
        weights: 'ema' (the teacher), 'student', or 'auto': the teacher's where there are any.
        out_indices: Blocks whose patch tokens to return; negative ones from the end.
        frozen: Whether the encoder stays in eval mode and gets no gradients.
        init_cfg: Must stay None; weights come from ``checkpoint``.

    Raises:
        InputError: The checkpoint does not fit, naming the keys, or there is no block of an index.
    """

    def __init__(
        self,
        checkpoint: str,
        weights: str = 'auto',
        out_indices: Sequence[int] = (-1,),
        frozen: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        config, state = load_pretrained(checkpoint, weights)
        self.backbone = MODELS.build(config['backbone'])
        prefix = 'backbone.'
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        load_state_dict(self.backbone, state, f'{checkpoint} ({weights} weights)')
        self.out_indices = tuple(layer_index(index, self.backbone.depth) for index in out_indices)
        self.frozen = frozen
        if frozen:
            self.backbone.requires_grad_(False).eval()

    @property
    def embed_dim(self) -> int:
        """D."""
        return self.backbone.embed_dim

    def train(self, mode: bool = True) -> 'PretrainedBackbone':
        """Set the mode; a frozen encoder stays in eval mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps ``[B, D, h, w]`` of normalised images ``[B, 3, H, W]``."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            context = self.backbone(images, layers=self.out_indices)
            grid = patch_grid(images.shape[-2:], self.backbone.patch_size)
            extra = context.extra.shape[1]
            return tuple(
                tokens[:, extra:].transpose(1, 2).unflatten(2, grid).contiguous()
                for tokens in layer_tokens(self.backbone, context)
            )
