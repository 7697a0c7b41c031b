"""Pictures of what a model with pixel targets reconstructs (MAE, arXiv 2111.06377, figure 2)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmmim.checkpoints.pretrained import load_pretrained
from mmmim.checkpoints.stored_config import check_stored_model, find_registered
from mmmim.models.algorithms.masked_image_modeling import Branch
from mmmim.models.stored import build_stored
from mmmim.models.target_generators.pixels import PixelTarget, patch_statistics
from mmmim.structures import PatchMask
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError
from mmmim.utils.nested import present, under

from .channels import as_rgb, channel_note, to_unit
from .image_table import draw_image_table

#: Brightness of patches that are not shown.
GREY = 0.5
_COLUMNS = {
    'masked': 'masked input',
    'predicted': 'predicted patches',
    'pasted': 'reconstruction:\npredicted and visible',
    'original': 'original',
}


def reconstruct(
    backbone: nn.Module, branch: nn.Module, preprocessor: nn.Module, images: Tensor, mask: PatchMask
) -> dict[str, Tensor]:
    """Predict the pixels of the patches that ``mask`` asks for.

    Args:
        backbone: The encoder of the model.
        branch: A branch with :class:`PixelTarget`.
        preprocessor: Data preprocessor of the model.
        images: RGB ``[B, 3, H, W]``, 0 to 255; or of the channels and the range that the model is trained on.
        mask: Mask of these images.

    Returns:
        RGB ``[G, H, W, 3]`` in [0, 1], on the CPU: 'masked' (patches that are not visible are grey), 'predicted' (those
        that are not predicted are grey), 'pasted' (predicted and visible patches) and 'original'. Where targets are
        normalised, predictions have got back the mean and the standard deviation of the true patch (of its low
        frequencies, where the target has these alone). Of images of other
        numbers of channels see :func:`~mmmim.visualization.channels.as_rgb`.
    """
    images = preprocessor.normalize(images.to(preprocessor.mean.device))
    mask = mask.to(images.device)
    generator, index = branch.target_generator, mask.flat_predict()
    context = backbone(images, mask, layers=branch.neck.layers)
    predicted = branch.neck(context, mask).patches.float()
    patches = generator.patches(images)[mask.image_index]
    if generator.normalize:
        targets = generator.patches(generator.filtered(images))[mask.image_index]
        mean, std = patch_statistics(gather_patches(targets, index))
        predicted = predicted * std + mean

    mean, std = preprocessor.mean.flatten(), preprocessor.std.flatten()

    def visible(patches: Tensor) -> Tensor:
        pixels = patches.unflatten(-1, (-1, generator.in_channels))
        return to_unit(pixels * std + mean, mean, std).flatten(-2)

    original, predicted = visible(patches), visible(predicted)
    grey = torch.full_like(original, GREY)
    masked = _paste(grey, mask.visible, gather_patches(original, mask.visible))
    pictures = {
        'masked': masked,
        'predicted': _paste(grey, index, predicted),
        'pasted': _paste(masked, index, predicted),
        'original': original,
    }
    images_of = {key: as_rgb(generator.images(value, mask.grid)) for key, value in pictures.items()}
    return {key: value.permute(0, 2, 3, 1).cpu() for key, value in images_of.items()}


def _paste(patches: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Patches ``[G, N, P]`` with those of ``index [G, M]`` replaced by ``values [G, M, P]``."""
    return patches.scatter(1, index.unsqueeze(-1).expand_as(values), values)


def draw_reconstructions(
    pictures: Mapping[str, Tensor],
    names: Sequence[str],
    path: str | os.PathLike,
    model: str,
    normalized: bool,
    channels: int = 3,
) -> None:
    """Draw a row per image.

    Args:
        pictures: Pictures that :func:`reconstruct` has made.
        names: Names of the images.
        path: The picture to write.
        model: Name of the model, for the title.
        normalized: Whether targets are normalised per patch, which the caption explains.
        channels: Channels of the images, as the caption explains.
    """
    caption = f'Grey patches are not shown.{channel_note(channels)}'
    if normalized:
        caption += (
            ' Targets are normalised per patch: every predicted patch was given the mean and the standard deviation of '
            'the true patch, which the model does not know.'
        )
    columns = [pictures[key].numpy() for key in _COLUMNS]
    rows = list(zip(*columns, strict=True))
    draw_image_table(rows, path, list(_COLUMNS.values()), names, f'Reconstructions of {model}', caption)


class Reconstructor(nn.Module):
    """The encoder and the pixel branch of a model, frozen.

    Args:
        config: Config of a :class:`MaskedImageModeling`, as plain data.
        state: Weights of the model (``backbone.*``, ``branches.*``), or None for a random initialisation.
        path: Where they come from, for error messages.

    Raises:
        InputError: The model has no branch with pixel targets, or the weights do not fit.
    """

    def __init__(self, config: Mapping[str, Any], state: Mapping[str, Tensor] | None, path: str | Path) -> None:
        super().__init__()
        if state is not None:
            check_stored_model(config, path)
        branches = present(config.get('branches'))
        names = [
            name
            for name, branch in branches.items()
            if issubclass(find_registered(branch['target_generator']['type']), PixelTarget)
        ]
        if not names:
            raise InputError(
                f'The model of {path} does not predict pixels, so there is nothing to draw: none of its branches '
                f'({", ".join(branches)}) has the target generator mmmim.PixelTarget.'
            )
        prefixes = ('backbone.', f'branches.{names[0]}.')
        parts = {prefix: None if state is None else under(state, prefix) for prefix in prefixes}
        (encoder, of_encoder), (pixels, of_branch) = parts.items()
        self.backbone = build_stored(config['backbone'], of_encoder, f'{path} ({encoder}*)')
        self.branch = build_stored(
            branches[names[0]], of_branch, f'{path} ({pixels}*)', build=lambda branch: Branch(**branch)
        )
        preprocessor = config.get('data_preprocessor') or {'type': 'mmmim.MIMDataPreprocessor'}
        self.preprocessor = build_stored(preprocessor, None, str(path))
        self.requires_grad_(False).eval()

    @classmethod
    def from_checkpoint(cls, path: str | Path, trust_checkpoint: bool = False) -> Reconstructor:
        """From a training checkpoint or a converted file; of the weights, the student's: they learn to reconstruct.

        Args:
            path: File of the checkpoint.
            trust_checkpoint: Whether to read a file that holds pickled Python objects too, which can run any code.

        Raises:
            InputError: It cannot be read, or as for the class.
        """
        return cls(*load_pretrained(path, 'student', trust_checkpoint), path)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per side of the images that the model is trained on."""
        return self.backbone.grid

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.branch.target_generator.patch_size

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.branch.target_generator.in_channels

    @property
    def normalized(self) -> bool:
        """Whether the targets are patches without their mean and standard deviation."""
        return self.branch.target_generator.normalize

    @torch.no_grad()
    def forward(self, images: Tensor, mask: PatchMask) -> dict[str, Tensor]:
        """Predict the pixels of the patches that ``mask`` asks for, see :func:`reconstruct`."""
        return reconstruct(self.backbone, self.branch, self.preprocessor, images, mask)
