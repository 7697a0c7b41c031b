"""A Vision Transformer of mmmim for transformers, in one file that needs nothing else.

Rotary, relative or added positions, LayerNorm or RMSNorm, CLS tokens, proxies and registers: the encoders of CAPI
(arXiv 2502.08769), SemanticMIM (arXiv 2406.10673) and others. Exported by ``mmmim export --to huggingface``.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling


class MmmimViTConfig(PretrainedConfig):
    """The sizes and switches of the encoder."""

    model_type = 'mmmim_vit'

    def __init__(
        self,
        hidden_size=768,
        num_hidden_layers=12,
        num_attention_heads=12,
        intermediate_size=3072,
        image_size=(224, 224),
        patch_size=16,
        num_channels=3,
        num_cls_tokens=1,
        num_registers=0,
        rotary_positions=False,
        relative_positions=False,
        extra_positions=False,
        norm='layer',
        layer_norm_eps=1e-6,
        final_norm=True,
        final_affine=True,
        linear_bias=True,
        query_bias=True,
        key_bias=True,
        layer_scale=False,
        **kwargs,
    ):
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.intermediate_size = intermediate_size
        self.image_size = list(image_size)
        self.patch_size = patch_size
        self.num_channels = num_channels
        self.num_cls_tokens = num_cls_tokens
        self.num_registers = num_registers
        self.rotary_positions = rotary_positions
        self.relative_positions = relative_positions
        self.extra_positions = extra_positions
        self.norm = norm
        self.layer_norm_eps = layer_norm_eps
        self.final_norm = final_norm
        self.final_affine = final_affine
        self.linear_bias = linear_bias
        self.query_bias = query_bias
        self.key_bias = key_bias
        self.layer_scale = layer_scale
        super().__init__(**kwargs)


class RMSNorm(nn.Module):
    """Root-mean-square norm in fp32."""

    def __init__(self, dim, eps, affine):
        super().__init__()
        self.dim, self.eps = dim, eps
        self.weight = nn.Parameter(torch.ones(dim)) if affine else None

    def forward(self, x):
        """``[..., D]`` to ``[..., D]``."""
        weight = None if self.weight is None else self.weight.float()
        return F.rms_norm(x.float(), (self.dim,), weight, self.eps).to(x.dtype)


def make_norm(config, affine=True):
    """The norm that the config says."""
    if config.norm == 'rms':
        return RMSNorm(config.hidden_size, config.layer_norm_eps, affine)
    return nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps, elementwise_affine=affine)


def rotate(x, cos, sin):
    """Turn channel i with channel i + half: ``[B, heads, L, d]``."""
    first, second = x.float().chunk(2, dim=-1)
    return (x.float() * cos + torch.cat([-second, first], dim=-1) * sin).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention with optional rotary positions or a bias of relative ones."""

    def __init__(self, config):
        super().__init__()
        dim = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.q_proj = nn.Linear(dim, dim, bias=config.query_bias)
        self.k_proj = nn.Linear(dim, dim, bias=config.key_bias)
        self.v_proj = nn.Linear(dim, dim, bias=config.query_bias)
        self.proj = nn.Linear(dim, dim, bias=config.linear_bias)

    def forward(self, x, rotation, bias):
        """``[B, L, D]`` to ``[B, L, D]``."""
        q, k, v = (
            layer(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        if rotation is not None:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        return self.proj(F.scaled_dot_product_attention(q, k, v, bias).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between."""

    def __init__(self, config):
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.linear_bias)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.linear_bias)

    def forward(self, x):
        """``[B, L, D]`` to ``[B, L, D]``."""
        return self.fc2(F.gelu(self.fc1(x)))


class Scale(nn.Module):
    """Learned factors of a residual branch."""

    def __init__(self, dim):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        """``[B, L, D]`` to ``[B, L, D]``."""
        return x * self.weight


class Block(nn.Module):
    """Attention and MLP, each after a norm and in a residual."""

    def __init__(self, config):
        super().__init__()
        self.norm1, self.norm2 = make_norm(config), make_norm(config)
        self.attn, self.mlp = Attention(config), Mlp(config)
        self.scale1, self.scale2 = (
            Scale(config.hidden_size) if config.layer_scale else nn.Identity() for _ in range(2)
        )

    def forward(self, x, rotation, bias):
        """``[B, L, D]`` to ``[B, L, D]``."""
        x = x + self.scale1(self.attn(self.norm1(x), rotation, bias))
        return x + self.scale2(self.mlp(self.norm2(x)))


class PositionTable(nn.Module):
    """A vector for every patch, and maybe for every learned token."""

    def __init__(self, config):
        super().__init__()
        self.grid = tuple(side // config.patch_size for side in config.image_size)
        self.weight = nn.Parameter(torch.zeros(self.grid[0] * self.grid[1], config.hidden_size))
        number = config.num_cls_tokens + config.num_registers
        self.extra = nn.Parameter(torch.zeros(number, config.hidden_size)) if config.extra_positions else None

    def forward(self, grid):
        """``[N, D]``, interpolated for another grid."""
        if tuple(grid) == self.grid:
            return self.weight
        table = self.weight.float().t().unflatten(1, self.grid).unsqueeze(0)
        table = F.interpolate(table, size=tuple(grid), mode='bicubic', align_corners=False)
        return table[0].flatten(1).t().to(self.weight.dtype)


class RelativePositions(nn.Module):
    """A bias of attention by where a key lies from a query, and three for those of learned tokens (BEiT)."""

    def __init__(self, config):
        super().__init__()
        self.grid = tuple(side // config.patch_size for side in config.image_size)
        rows = (2 * self.grid[0] - 1) * (2 * self.grid[1] - 1) + 3
        self.table = nn.Parameter(torch.zeros(rows, config.num_attention_heads))

    def forward(self, grid, number):
        """``[1, heads, E + N, E + N]``, of an interpolated table for another grid."""
        places, (ahead, back, among) = self.table[:-3], self.table[-3:]
        if tuple(grid) != self.grid:
            sides, wanted = ([2 * side - 1 for side in each] for each in (self.grid, grid))
            places = places.float().t().unflatten(1, sides).unsqueeze(0)
            places = F.interpolate(places, size=wanted, mode='bicubic', align_corners=False)
            places = places[0].flatten(1).t().to(self.table.dtype)
        height, width = grid
        patch = torch.arange(height * width, device=places.device)
        row, column = patch // width, patch % width
        down, right = (line[:, None] - line + side - 1 for line, side in ((row, height), (column, width)))
        bias = places.new_empty(height * width + number, height * width + number, places.shape[1])
        bias[number:, number:] = places[down * (2 * width - 1) + right]
        bias[:number, number:], bias[number:, :number], bias[:number, :number] = ahead, back, among
        return bias.permute(2, 0, 1).unsqueeze(0)


def rotary_angles(grid, num_extra, head_dim, device):
    """Cosines and sines ``[L, head_dim]`` of learned tokens, which lie on the border of the image, and of patches.

    Coordinates of patches span [0, 1] on both sides; ``head_dim / 4`` frequencies fall from 7 to 7e-4 turns per side.
    The first half of the channels turns with the row, the second with the column (CAPI, arXiv 2502.08769).
    """
    rows, columns = (torch.linspace(0, 1, side, device=device) for side in grid)
    patches = torch.stack(torch.meshgrid(rows, columns, indexing='ij'), dim=-1).flatten(0, 1)
    side = num_extra // 4
    c = torch.arange(side, device=device, dtype=torch.float32) / max(side, 1)
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    sides = [(c, zero), (one, c), (1 - c, one), (zero, 1 - c)]
    border = torch.cat([torch.stack(pair, dim=-1) for pair in sides])
    low, high = patches.amin(dim=0), patches.amax(dim=0)
    places = torch.cat([low + border * (high - low), patches])
    exponents = torch.linspace(0, -1, head_dim // 4, device=device)
    frequencies = (7.0 * 1e4**exponents * (2 * math.pi)).repeat(2)
    angles = torch.cat([place * frequencies for place in places.split(1, dim=1)], dim=1)
    return angles.cos(), angles.sin()


class MmmimViTModel(PreTrainedModel):
    """The encoder: tokens of whole images."""

    config_class = MmmimViTConfig
    main_input_name = 'pixel_values'
    _supports_sdpa = True

    def __init__(self, config):
        super().__init__(config)
        dim, number = config.hidden_size, config.num_cls_tokens + config.num_registers
        self.patch_embed = nn.Conv2d(config.num_channels, dim, config.patch_size, config.patch_size)
        self.extra_tokens = nn.Parameter(torch.zeros(1, number, dim)) if number else None
        self.positions = None
        if not config.rotary_positions:
            self.positions = RelativePositions(config) if config.relative_positions else PositionTable(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_hidden_layers))
        self.norm = make_norm(config, config.final_affine) if config.final_norm else nn.Identity()
        self.post_init()

    def _init_weights(self, module):
        """Weights come from the folder."""

    def forward(self, pixel_values, output_hidden_states=False, return_dict=True, **kwargs):
        """Encode normalised images ``[B, C, H, W]``, whose sides the patch size divides.

        Returns:
            ``last_hidden_state [B, E + N, D]`` after the final norm, learned tokens first; ``pooler_output [B, D]``,
            the mean of CLS tokens or, without any, of the patches; and maybe ``hidden_states``.
        """
        patches = self.patch_embed(pixel_values.to(self.patch_embed.weight.dtype))
        grid, x = patches.shape[-2:], patches.flatten(2).transpose(1, 2)
        number, rotation, bias = 0, None, None
        if isinstance(self.positions, PositionTable):
            x = x + self.positions(grid)
        if self.extra_tokens is not None:
            extra = self.extra_tokens
            if isinstance(self.positions, PositionTable) and self.positions.extra is not None:
                extra = extra + self.positions.extra
            number = extra.shape[1]
            x = torch.cat([extra.expand(len(x), -1, -1), x], dim=1)
        if self.positions is None:
            head_dim = self.config.hidden_size // self.config.num_attention_heads
            rotation = rotary_angles(grid, number, head_dim, x.device)
        if isinstance(self.positions, RelativePositions):
            bias = self.positions(grid, number)
        states = [x]
        for block in self.blocks:
            x = block(x, rotation, bias)
            states.append(x)
        x = self.norm(x)
        num_cls = self.config.num_cls_tokens
        pooled = (x[:, :num_cls] if num_cls else x[:, number:]).mean(dim=1)
        output = BaseModelOutputWithPooling(
            last_hidden_state=x,
            pooler_output=pooled,
            hidden_states=tuple(states) if output_hidden_states else None,
        )
        return output if return_dict else output.to_tuple()
