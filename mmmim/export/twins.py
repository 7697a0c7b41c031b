"""What a :class:`mmmim.ViT` is made of, in the words of libraries that have the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmmim.models.backbones import ViT
from mmmim.models.layers import AxialRoPE, LayerScale, RelativePositions
from mmmim.utils import InputError

from .formats import Export


@dataclass(frozen=True)
class Facts:
    """What decides whether another library has the same encoder.

    Attributes:
        vit: The encoder itself, with its weights.
        rotary: Whether positions turn queries and keys.
        relative: Whether they are a bias of attention that blocks share.
        norm: 'layer' or 'rms'.
        norm_eps: Added to the variance in every norm.
        heads: Number of attention heads.
        hidden: Width of the hidden layer of the MLPs.
        query_bias: Whether queries and values have a bias.
        key_bias: Whether keys have one.
        bias: Whether all other linear layers have one.
        scaled: Whether residual branches have learned factors.
        final_norm: Whether there is a norm after the last block.
        num_registers: Learned tokens that stand for nothing.
        mean: Mean of every channel, in the 0-1 range.
        std: Standard deviation of every channel, in the 0-1 range.
    """

    vit: ViT
    rotary: bool
    relative: bool
    norm: str
    norm_eps: float
    heads: int
    hidden: int
    query_bias: bool
    key_bias: bool
    bias: bool
    scaled: bool
    final_norm: bool
    num_registers: int
    mean: list[float]
    std: list[float]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the images that it was trained on."""
        rows, columns = self.vit.grid
        return rows * self.vit.patch_size, columns * self.vit.patch_size


def facts_of(export: Export, library: str) -> Facts:
    """The facts of an encoder.

    Args:
        export: What is exported.
        library: The format, for messages.

    Raises:
        InputError: The encoder is none of mmmim, or its norms are in other places.
    """
    vit = export.extractor.backbone
    if not isinstance(vit, ViT):
        raise InputError(
            f'--to {library} exports a mmmim.ViT, and {export.source} has a {type(vit).__name__}: use onnx or '
            'torch-export.'
        )
    block: Any = vit.blocks[0]
    if block.post_norm or not isinstance(vit.embedding_norm, nn.Identity):
        raise InputError(
            f'--to {library} exports encoders whose norms come before the branches of blocks, and {export.source} '
            'has post_norm or embedding_norm: use onnx or torch-export.'
        )
    preprocessor = export.extractor.preprocessor
    statistics = []
    for values in (preprocessor.mean, preprocessor.std):
        listed = [round(value / 255, 6) for value in values.double().flatten().tolist()]
        statistics.append(listed * vit.in_channels if len(listed) == 1 else listed)
    return Facts(
        vit=vit,
        rotary=isinstance(vit.positions, AxialRoPE),
        relative=isinstance(vit.positions, RelativePositions),
        norm='layer' if isinstance(block.norm1, nn.LayerNorm) else 'rms',
        norm_eps=block.norm1.eps,
        heads=block.attn.num_heads,
        hidden=block.mlp.fc1.out_features,
        query_bias=block.attn.q_proj.bias is not None,
        key_bias=block.attn.k_proj.bias is not None,
        bias=block.attn.proj.bias is not None,
        scaled=isinstance(block.scale1, LayerScale),
        final_norm=not isinstance(vit.norm, nn.Identity),
        num_registers=vit.num_extra_tokens - vit.num_cls_tokens,
        mean=statistics[0],
        std=statistics[1],
    )


def complete_state(facts: Facts, key_bias: bool) -> dict[str, Tensor]:
    """Weights of an encoder with biases of 0 and norms of weight 1 where a library knows no encoder without.

    Args:
        facts: What the encoder is made of.
        key_bias: Whether the library's keys have a bias where queries have one.
    """
    state = {key: value.detach().float() for key, value in facts.vit.state_dict().items()}
    dim = facts.vit.embed_dim
    sizes = {'attn.proj': dim, 'mlp.fc1': facts.hidden, 'mlp.fc2': dim}
    if key_bias and facts.query_bias:
        sizes['attn.k_proj'] = dim
    for i in range(facts.vit.depth):
        for name, size in sizes.items():
            state.setdefault(f'blocks.{i}.{name}.bias', torch.zeros(size))
    if facts.final_norm:
        state.setdefault('norm.weight', torch.ones(dim))
        state.setdefault('norm.bias', torch.zeros(dim))
    return state
