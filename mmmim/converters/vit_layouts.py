"""Vision Transformers of timm and of Hugging Face, and the :class:`mmmim.ViT` that computes the same.

Both ways: files of these libraries become a config and weights of :class:`mmmim.ViT`, and the weights of one get the
names and shapes of the library.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmmim.utils import InputError

from .common import check_shape, count_blocks, head_count, square_side

_QKV = ('q_proj', 'k_proj', 'v_proj')
_KINDS = ('weight', 'bias')


@dataclass(frozen=True)
class ViTLayout:
    """Names of a library for the weights of a Vision Transformer.

    Attributes:
        name: The library and its class, in messages.
        blocks: What the names of blocks begin with, before their number.
        inside: Modules of a block: mmmim's names and the library's.
        outside: Modules and tokens outside of blocks: mmmim's names and the library's.
        positions: Name of the table of positions, which begins with rows of the CLS and register tokens.
        fused: Name of the layer of queries, keys and values inside a block, where they are one.
        scales: Names of the factors of the two residual branches of a block.
        cls_token: Name of the CLS token.
        registers: Name of the tokens after it; None for a library without.
        mask_token: Name of what stands in the place of hidden patches; None for a library without.
        ignored: Pattern of names that are no part of the encoder: heads, poolers, decoders.
    """

    name: str
    blocks: str
    inside: Mapping[str, str]
    outside: Mapping[str, str]
    positions: str
    fused: str | None = None
    scales: tuple[str, str] | None = None
    cls_token: str = 'cls_token'
    registers: str | None = None
    mask_token: str | None = None
    ignored: str = r'$.'

    def rename(self, weights: Mapping[str, Tensor], num_cls: int) -> dict[str, Tensor]:
        """Weights of a :class:`mmmim.ViT` under the names of the library, whose model computes the same.

        Positions get rows for the learned tokens, of zeros where they have none; what is of the pre-training only
        (projector) is left out.

        Args:
            weights: State dict of the encoder, with a table of positions.
            num_cls: How many learned tokens, the first ones, stand for the whole image: the first of them becomes the
                CLS token, all others are registers.
        """
        found: dict[str, Tensor] = {}
        for key, value in weights.items():
            module, _, kind = key.rpartition('.')
            if match := re.fullmatch(r'blocks\.(\d+)\.(.+)', key):
                found |= self._block(f'{self.blocks}.{match[1]}', match[2], value, weights)
            elif module in self.outside:
                found[f'{self.outside[module]}.{kind}'] = value
        extra = weights.get('extra_tokens')
        table = weights['positions.weight']
        number = 0
        if extra is not None:
            number, first = extra.shape[1], min(num_cls, 1)
            if first:
                found[self.cls_token] = extra[:, :1]
            if number > first and self.registers is not None:
                found[self.registers] = extra[:, first:]
        rows = weights.get('positions.extra', table.new_zeros(number, table.shape[1]))
        found[self.positions] = torch.cat([rows, table]).unsqueeze(0)
        if self.mask_token is not None and 'mask_token' in weights:
            found[self.mask_token] = weights['mask_token'].unsqueeze(0)
        return {key: value.clone() for key, value in found.items()}

    def _block(self, block: str, name: str, value: Tensor, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        module, _, kind = name.rpartition('.')
        if module in ('scale1', 'scale2') and self.scales is not None:
            return {f'{block}.{self.scales[module == "scale2"]}': value}
        if self.fused is None or not module.endswith(_QKV):
            return {f'{block}.{self.inside[module]}.{kind}': value}
        if not module.endswith('q_proj'):
            return {}
        number = block.removeprefix(f'{self.blocks}.')
        parts = [weights.get(f'blocks.{number}.attn.{one}.{kind}') for one in _QKV]
        # Softmax does not see a bias of keys: one of zeros is as good as none.
        joined = torch.cat([torch.zeros_like(value) if part is None else part for part in parts])
        return {f'{block}.{self.fused}.{kind}': joined}

    def read(
        self, weights: Mapping[str, Tensor], source: str, num_heads: int | None = None, norm_eps: float = 1e-6
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The :class:`mmmim.ViT` that computes the same as a model of the library.

        Args:
            weights: State dict of the library's model, without a prefix.
            source: Name of the file, for messages.
            num_heads: Attention heads, which weights do not tell; None for heads of 64 channels (ViT-H: 80).
            norm_eps: Added to the variance in every norm, which weights do not tell.

        Returns:
            Config and weights. Positions of learned tokens are added to these.

        Raises:
            InputError: There are weights that the layout does not have, or others are missing.
        """
        weights = {key: value for key, value in weights.items() if not re.match(self.ignored, key)}
        names = {f'{theirs}.{kind}': f'{ours}.{kind}' for ours, theirs in self.outside.items() for kind in _KINDS}
        state: dict[str, Tensor] = {}
        unknown = []
        special = {self.positions, self.cls_token, self.registers, self.mask_token}
        for key, value in weights.items():
            if key in names:
                state[names[key]] = value
            elif (match := re.fullmatch(rf'{re.escape(self.blocks)}\.(\d+)\.(.+)', key)) and (
                pieces := self._pieces(match[2], value)
            ):
                state |= {f'blocks.{match[1]}.{name}': piece for name, piece in pieces.items()}
            elif key not in special:
                unknown.append(key)
        if unknown:
            raise InputError(
                f'{source}: {len(unknown)} weights are none of a plain Vision Transformer of {self.name} '
                f'({", ".join(unknown[:3])}): mmmim.ViT cannot compute the same.'
            )
        needed = (self.positions, f'{self.outside["patch_embed"]}.weight', f'{self.outside["patch_embed"]}.bias')
        if missing := [key for key in needed if key not in weights]:
            raise InputError(f'{source} has no {", ".join(missing)}: not the whole of a {self.name}.')
        config = self._tokens(weights, state, source)
        dim, channels, patch_size, _ = state['patch_embed.weight'].shape
        first = {key: value for key, value in state.items() if key.startswith('blocks.0.')}
        q, k = ('blocks.0.attn.q_proj.bias' in first, 'blocks.0.attn.k_proj.bias' in first)
        fc1 = first.get('blocks.0.mlp.fc1.weight')
        if fc1 is None or fc1.ndim != 2:
            raise InputError(f'{source} has no blocks of a {self.name}.')
        side = square_side(state['positions.weight'], source)
        config |= {
            'img_size': side * patch_size,
            'patch_size': patch_size,
            'in_channels': channels,
            'embed_dim': dim,
            'depth': count_blocks({f'x.{key}': value for key, value in state.items()}, 'x'),
            'num_heads': head_count(dim, num_heads, 'the name of the model, timm:NAME=FILE', source),
            'mlp_ratio': len(fc1) / dim,
            'qkv_bias': True if k else 'qv' if q else False,
            'layer_scale': 1.0 if 'blocks.0.scale1.weight' in first else None,
            'final_norm': 'norm.weight' in state,
            'norm_eps': norm_eps,
        }
        return config, state

    def _pieces(self, name: str, value: Tensor) -> dict[str, Tensor]:
        """Weights of mmmim of one in a block of the library; nothing for a name that it does not have."""
        if self.scales is not None and name in self.scales:
            return {f'scale{self.scales.index(name) + 1}.weight': value}
        module, _, kind = name.rpartition('.')
        if kind not in _KINDS:
            return {}
        if module == self.fused:
            return {f'attn.{one}.{kind}': part for one, part in zip(_QKV, value.tensor_split(3), strict=True)}
        return {f'{ours}.{kind}': value for ours, theirs in self.inside.items() if theirs == module}

    def _tokens(self, weights: Mapping[str, Tensor], state: dict[str, Tensor], source: str) -> dict[str, Any]:
        """Add learned tokens and positions to the weights; what the config says of them."""
        table, patches = weights[self.positions], state['patch_embed.weight']
        names = [key for key in (self.cls_token, self.registers) if key is not None and key in weights]
        try:
            check_shape(self.outside['patch_embed'], patches, patches.ndim == 4, '[D, C, p, p]')
            for key in (self.positions, *names):
                value = weights[key]
                fits = value.ndim == 3 and len(value) == 1 and value.shape[2] == len(patches)
                check_shape(key, value, fits, f'[1, tokens, {len(patches)}]')
        except InputError as error:
            raise InputError(f'{source}: {error}') from None
        tokens = [weights[key] for key in names]
        extra = torch.cat(tokens, dim=1) if tokens else None
        number = 0 if extra is None else extra.shape[1]
        num_cls = int(self.cls_token in weights)
        length = table.shape[1]
        # How many learned tokens have positions: all, the first or none.
        rows = next((rows for rows in (number, num_cls, 0) if _is_square(length - rows)), 0)
        if extra is not None:
            state['extra_tokens'] = torch.cat([extra[:, :rows] + table[:, :rows], extra[:, rows:]], dim=1)
        state['positions.weight'] = table[0, rows:]
        if self.mask_token is not None and self.mask_token in weights:
            state['mask_token'] = weights[self.mask_token].reshape(1, -1)
        return {
            'type': 'mmmim.ViT',
            'positions': 'learnable',
            'num_cls_tokens': num_cls,
            'num_registers': number - num_cls,
            'fused': 'mask_token' in state,
        }


def _is_square(number: int) -> bool:
    return number > 0 and math.isqrt(number) ** 2 == number


_SAME = {name: name for name in ('norm1', 'norm2', 'attn.proj', 'mlp.fc1', 'mlp.fc2')}
_HUGGING_FACE_ATTENTION = {
    'attn.q_proj': 'attention.attention.query',
    'attn.k_proj': 'attention.attention.key',
    'attn.v_proj': 'attention.attention.value',
    'attn.proj': 'attention.output.dense',
}
_HUGGING_FACE: dict[str, Any] = {
    'blocks': 'encoder.layer',
    'outside': {'patch_embed': 'embeddings.patch_embeddings.projection', 'norm': 'layernorm'},
    'positions': 'embeddings.position_embeddings',
    'cls_token': 'embeddings.cls_token',
    'mask_token': 'embeddings.mask_token',
    'registers': 'embeddings.register_tokens',
    'ignored': r'(pooler|classifier|cls_classifier|distillation_classifier|decoder|lm_head)\.',
}

TIMM = ViTLayout(
    'VisionTransformer of timm',
    blocks='blocks',
    inside=_SAME,
    outside={'patch_embed': 'patch_embed.proj', 'norm': 'norm'},
    positions='pos_embed',
    fused='attn.qkv',
    scales=('ls1.gamma', 'ls2.gamma'),
    registers='reg_token',
    ignored=r'(head|head_dist|fc_norm)\.',
)
#: ViTModel, ViTMAEModel, IJepaModel and BeitModel, as their files are; without registers.
HUGGING_FACE = ViTLayout(
    'ViTModel of Hugging Face',
    inside={
        'norm1': 'layernorm_before',
        'norm2': 'layernorm_after',
        'mlp.fc1': 'intermediate.dense',
        'mlp.fc2': 'output.dense',
        **_HUGGING_FACE_ATTENTION,
    },
    scales=('lambda_1', 'lambda_2'),
    **_HUGGING_FACE,
)
#: Dinov2Model and Dinov2WithRegistersModel, as their files are.
DINOV2 = ViTLayout(
    'Dinov2Model of Hugging Face',
    inside={**_SAME, **_HUGGING_FACE_ATTENTION},
    scales=('layer_scale1.lambda1', 'layer_scale2.lambda1'),
    **_HUGGING_FACE,
)
#: What models with a head put in front of the names of the encoder.
_PREFIX = re.compile(r'^(vit|beit|ijepa|dinov2|dinov2_with_registers|deit|model)\.(?=(embeddings|encoder|layernorm)\.)')


def find_vit_layout(weights: Mapping[str, Tensor]) -> tuple[ViTLayout, dict[str, Tensor]] | None:
    """Whose layout the weights of a Vision Transformer are in, by their names.

    Args:
        weights: All of a file.

    Returns:
        The layout, and the weights without the prefix that models with a head have; None for others.
    """
    bare = {_PREFIX.sub('', key): value for key, value in weights.items()}
    if 'encoder.layer.0.layernorm_before.weight' in bare:
        return HUGGING_FACE, bare
    if 'encoder.layer.0.norm1.weight' in bare:
        return DINOV2, bare
    if 'blocks.0.attn.qkv.weight' in weights and 'patch_embed.proj.weight' in weights:
        return TIMM, dict(weights)
    return None
