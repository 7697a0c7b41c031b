"""What a training sees before its first step: images, masks and targets of a batch."""

from __future__ import annotations

import colorsys
from typing import Any

import torch
from torch import Tensor

from mmmim.models.algorithms.masked_image_modeling import MaskedImageModeling
from mmmim.models.target_generators.pixels import PixelTarget
from mmmim.structures import PatchMask

from .channels import as_rgb, to_unit
from .pca import pca_components, to_rgb
from .reconstruction import GREY, reconstruct

#: Brightness of what is neither seen nor predicted, beside :data:`GREY`.
DARK = 0.15


@torch.no_grad()
def draw_batch(
    model: MaskedImageModeling, images: Tensor, mask: PatchMask, second: Tensor | None = None
) -> dict[str, Tensor]:
    """Pictures of a batch, a row for each mask.

    Args:
        model: The model that would be trained on it.
        images: Images of the loader, ``[B, C, H, W]``, RGB where they have three channels.
        mask: Masks of these images.
        second: Other pictures of the same crops, which the teacher sees, like the images; None: it sees these.

    Returns:
        By the heading of a column, RGB ``[G, H, W, 3]`` in [0, 1]: the images after augmentation, what the encoder
        sees of them, which patches are predicted, and of every branch the targets of these and, where they have the
        same form, the predictions. Targets that are pixels are shown as pixels; tokens and assignments as a colour for
        each; others by the three principal components of the targets.
    """
    preprocessor, rows = model.data_preprocessor, mask.image_index
    inputs = preprocessor.normalize(images.to(preprocessor.mean.device))
    mask = mask.to(inputs.device)
    mean, std = (value.flatten()[:, None, None].cpu() for value in (preprocessor.mean, preprocessor.std))
    unit = to_unit(images, mean, std)
    shown = as_rgb(unit).permute(0, 2, 3, 1)[rows.cpu()]
    places = _places(mask, shown.shape[1:3])
    visible = torch.full_like(shown, GREY)
    _copy(visible, shown, places, mask.visible)
    asked = torch.full_like(shown, DARK)
    _copy(asked, shown, places, mask.flat_predict())
    pictures = {'image': shown, 'seen by\nthe encoder': visible, 'to predict': asked}
    if second is not None:
        pictures['seen by\nthe teacher'] = as_rgb(to_unit(second, mean, std)).permute(0, 2, 3, 1)[rows.cpu()]
        second = preprocessor.normalize(second.to(inputs.device))
    targets = model.targets(inputs, mask, second)
    context = model.backbone(inputs, mask, layers=model.layers)
    for name, branch in model.branches.items():
        if name not in targets:  # made of the student in the step itself
            continue
        generator, target = branch.target_generator, targets[name].patches
        if isinstance(generator, PixelTarget):
            made = reconstruct(model.backbone, branch, preprocessor, images, mask)
            pictures[f'{name}:\npredicted'] = made['predicted']
            continue
        prediction = model.prediction(branch, context, mask).patches
        colours = [_colours(target, generator)]
        headings = [f'{name}:\ntargets']
        values = target.is_floating_point() and not generator.distribution
        if values and prediction.shape == target.shape:
            colours = list(_colours(torch.cat([target, prediction.to(target)]), generator).chunk(2))
            headings.append(f'{name}:\npredictions')
        for heading, colour in zip(headings, colours, strict=True):
            picture = torch.full_like(shown, DARK)
            _fill(picture, colour, places, mask.flat_predict())
            pictures[heading] = picture
    return pictures


def _places(mask: PatchMask, size: Any) -> Tensor:
    """Top, left and side in pixels of every patch of every mask, ``[G, N, 3]``."""
    h, w = mask.grid
    cell = size[0] // h
    index = torch.arange(h * w)
    corner = torch.stack([index // w * cell, index % w * cell], dim=-1).expand(mask.num_masks, -1, -1)
    side = cell
    if mask.offsets is not None:
        offsets = mask.offsets.cpu()[mask.image_index.cpu()]
        corner, side = corner + offsets, cell - int(offsets.max())
    return torch.cat([corner, torch.full_like(corner[..., :1], side)], dim=-1)


def _copy(picture: Tensor, source: Tensor, places: Tensor, indices: Tensor) -> None:
    for g, patches in enumerate(indices.cpu().tolist()):
        for top, left, side in places[g, patches].tolist():
            where = (g, slice(top, top + side), slice(left, left + side))
            picture[where] = source[where]


def _fill(picture: Tensor, colours: Tensor, places: Tensor, indices: Tensor) -> None:
    for g, patches in enumerate(indices.cpu().tolist()):
        for (top, left, side), colour in zip(places[g, patches].tolist(), colours[g], strict=True):
            picture[g, top : top + side, left : left + side] = colour


def _colours(values: Tensor, generator: Any) -> Tensor:
    """A colour for each target ``[G, M]`` or ``[G, M, K]``: ``[G, M, 3]``."""
    if not values.is_floating_point() or generator.distribution:
        names = values if not values.is_floating_point() else values.argmax(dim=-1)
        return torch.tensor([[_palette(int(name)) for name in row] for row in names.cpu()])
    components = pca_components(values.flatten(0, 1).float().cpu(), 3)
    return torch.from_numpy(to_rgb(components)).float().unflatten(0, values.shape[:2])


def _palette(number: int) -> tuple[float, float, float]:
    """A colour for a number: steps of the golden ratio around the circle of hues, three levels of brightness."""
    return colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.55 + 0.15 * (number % 3), 0.95 - 0.2 * (number // 3 % 3))
