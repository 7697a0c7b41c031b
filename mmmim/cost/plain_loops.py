"""Plain loops over timm's blocks, the fewest lines that some methods take: what steps are measured beside.

They use nothing of the toolbox, also where it has a function, so that they stand for code that others wrote.

Legend: B images, N = 14 x 14 patches, V visible, T target blocks, M predicted, D width.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Patches per side, pixels per patch, width of a head, blocks of an encoder.
GRID, PATCH, HEAD, DEPTH = 14, 16, 64, 12


def _blocks(depth: int, width: int, heads: int, bias: bool) -> nn.ModuleList:
    from timm.models.vision_transformer import Block

    return nn.ModuleList([Block(width, heads, 4, qkv_bias=bias, norm_layer=nn.LayerNorm) for _ in range(depth)])


def _gathered(x: Tensor, index: Tensor) -> Tensor:
    return x.gather(1, index.unsqueeze(2).expand(-1, -1, x.shape[2]))


def _patches(images: Tensor) -> Tensor:
    x = images.unflatten(2, (GRID, PATCH)).unflatten(4, (GRID, PATCH))
    return x.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


class Encoder(nn.Module):
    """A ViT of timm's blocks; of images ``[B, 3, H, W]`` and indices ``[B, V]`` (None: of all) CLS and patches."""

    def __init__(self, width: int, cls: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, width, PATCH, PATCH)
        self.positions = nn.Parameter(0.02 * torch.randn(1, GRID**2, width))
        self.cls = nn.Parameter(torch.zeros(1, int(cls), width))
        self.blocks, self.norm = _blocks(DEPTH, width, width // HEAD, bias), nn.LayerNorm(width)

    def forward(self, images: Tensor, visible: Tensor | None = None) -> Tensor:
        """Normed tokens ``[B, 1 + V, D]``."""
        x = self.embed(images).flatten(2).transpose(1, 2) + self.positions
        if visible is not None:
            x = _gathered(x, visible)
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class Decoder(nn.Module):
    """A decoder of timm's blocks over what is seen and a mask token for each patch that is asked for."""

    def __init__(self, context: int, width: int, depth: int, heads: int, out: int, cls: bool = True, bias: bool = True):
        super().__init__()
        self.embed, self.mask_token = nn.Linear(context, width), nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, int(cls) + GRID**2, width))
        self.blocks, self.norm = _blocks(depth, width, heads, bias), nn.LayerNorm(width)
        self.out, self.extra = nn.Linear(width, out), int(cls)

    def forward(self, x: Tensor, visible: Tensor, asked: Tensor) -> Tensor:
        """Predictions ``[B, 1 + M, out]`` of CLS and patches ``asked [B, M]`` from tokens ``[B, 1 + V, D]``."""
        batch, number = asked.shape
        x = torch.cat([self.embed(x), self.mask_token.expand(batch, number, -1)], dim=1)
        place = torch.cat([visible, asked], dim=1) + self.extra
        place = torch.cat([place.new_zeros(batch, self.extra), place], dim=1)
        x = x + _gathered(self.positions.expand(batch, -1, -1), place)
        for block in self.blocks:
            x = block(x)
        x = self.out(self.norm(x))
        return torch.cat([x[:, : self.extra], x[:, -number:]], dim=1)


class MAE(nn.Module):
    """He et al., 2022: pixels of hidden patches, normalised per patch."""

    options = ('model.branches.pixels.neck.context_dim={width}',)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(width), Decoder(width, 512, 8, 16, 3 * PATCH**2)

    def forward(self, images: Tensor, visible: Tensor, predict: Tensor) -> Tensor:
        """The loss of images ``[B, 3, H, W]``, given indices of patches ``[B, V]`` and ``[B, T, M]``: a scalar."""
        hidden = predict.flatten(1)
        found = self.decoder(self.encoder(images, visible), visible, hidden)[:, 1:]
        target = _patches(images)
        mean, var = target.mean(dim=2, keepdim=True), target.var(dim=2, keepdim=True)
        return functional.mse_loss(found, _gathered((target - mean) / (var + 1e-6).sqrt(), hidden))


class PiLaMIM(nn.Module):
    """Lee et al., 2025: pixels, latents of patches and the latent of CLS, by two decoders."""

    options = (
        'model.branches.latent.target_generator.in_dim={width}',
        'model.branches.latent.neck.context_dim={width}',
        'model.branches.latent.neck.out_dim={width}',
        'model.branches.pixels.neck.context_dim={width}',
    )

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = Encoder(width, bias=False)
        self.pixels = Decoder(width, 384, 6, 12, 3 * PATCH**2, bias=False)
        self.latent = Decoder(width, 384, 6, 12, width, bias=False)
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)

    def forward(self, images: Tensor, visible: Tensor, predict: Tensor) -> Tensor:
        """The loss of images ``[B, 3, H, W]``, given indices of patches ``[B, V]`` and ``[B, T, M]``: a scalar."""
        hidden = predict.flatten(1)
        with torch.no_grad():
            target = self.teacher(images)
        x = self.encoder(images, visible)
        pixels, latent = self.pixels(x, visible, hidden), self.latent(x, visible, hidden)
        return (
            functional.mse_loss(pixels[:, 1:], _gathered(_patches(images), hidden))
            + functional.mse_loss(latent[:, 1:], _gathered(target[:, 1:], hidden))
            + functional.mse_loss(latent[:, 0], target[:, 0])
        )


class IJEPA(nn.Module):
    """Assran et al., 2023: normed latents of four blocks, each predicted on its own."""

    options = PiLaMIM.options[:3]

    def __init__(self, width: int) -> None:
        super().__init__()
        self.encoder = Encoder(width, cls=False)
        self.predictor = Decoder(width, 384, 6, 12, width, cls=False)
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)

    def forward(self, images: Tensor, visible: Tensor, predict: Tensor) -> Tensor:
        """The loss of images ``[B, 3, H, W]``, given indices of patches ``[B, V]`` and ``[B, T, M]``: a scalar."""
        blocks = predict.shape[1]
        with torch.no_grad():
            target = self.teacher(images)
            target = _gathered(functional.layer_norm(target, target.shape[2:]), predict.flatten(1))
        x, seen = self.encoder(images, visible), visible.repeat_interleave(blocks, dim=0)
        found = self.predictor(x.repeat_interleave(blocks, dim=0), seen, predict.flatten(0, 1))
        return functional.smooth_l1_loss(found, target.unflatten(1, (blocks, -1)).flatten(0, 1))


#: Plain loops by the folder of the method's config.
PLAIN: dict[str, type[MAE] | type[PiLaMIM] | type[IJEPA]] = {'mae': MAE, 'pilamim': PiLaMIM, 'ijepa': IJEPA}
