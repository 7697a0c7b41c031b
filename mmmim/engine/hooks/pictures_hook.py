"""Pictures of what a model has learned, in the work folder."""

from __future__ import annotations

import os
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import Tensor

from mmmim.engine.ddp import bare_model, gathered, takes_part
from mmmim.engine.reporting import show_in_trackers
from mmmim.features.extraction import encoders, eval_mode
from mmmim.models import MaskedImageModeling
from mmmim.models.target_generators.pixels import PixelTarget
from mmmim.registry import HOOKS
from mmmim.utils import InputError
from mmmim.utils.options import Natural

#: Least side in pixels of the images whose features are drawn.
SIDE = 128


@HOOKS.register_module()
class PicturesHook(Hook):
    """Draw images at the end of training.

    ``features.png``: principal components of patch features, of the teacher where there is one (CAPI, arXiv
    2502.08769, figure 13), of images of the validation data, spread evenly, or else of the last batch; smaller ones are
    enlarged to ``SIDE`` pixels, so that there are patches enough to see parts. ``reconstruction.png``: of models
    with pixel targets (MAE, arXiv 2111.06377, figure 2), of the last batch. Trackers of the visualizer get both. For
    other images and sizes, see ``tools/visualization``.

    Args:
        images: How many, at most; 0 for no pictures.
    """

    priority = 'LOWEST'
    only_reports = True

    def __init__(self, images: Natural = 8) -> None:
        self.images = images

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Draw, after the last iteration."""
        model = bare_model(runner)
        if not (
            self.is_last_train_iter(runner)
            and takes_part(runner)
            and self.images
            and isinstance(model, MaskedImageModeling)
        ):
            return
        try:
            with gathered(runner):
                features, reconstructions = self._look(model, data_batch, self._validation(runner))
            if is_main_process():
                self._draw(features, reconstructions, runner.work_dir)
                show_in_trackers(runner, ('features', *(['reconstruction'] if reconstructions else [])))
        except (OSError, RuntimeError, InputError) as error:  # a picture must not end a training
            runner.logger.warning(f'No pictures in {runner.work_dir}: {error}')

    def _validation(self, runner: Any) -> Tensor | None:
        """Images of the validation data, ``[n, C, H, W]``; None where there are none, or they differ in size."""
        if runner.val_loop is None:
            return None
        dataset = runner.val_dataloader.dataset
        step = max(len(dataset) // self.images, 1)
        found = [dataset[i]['inputs'] for i in range(step // 2, len(dataset), step)[: self.images]]
        return torch.stack(found) if len({image.shape for image in found}) == 1 else None

    def _look(self, model: Any, data_batch: Any, validation: Tensor | None) -> tuple[tuple, tuple | None]:
        """What to draw; all forward passes come before the first file is written."""
        # They need the data sets of mmpretrain and matplotlib, which take seconds to import.
        from mmmim.visualization.feature_pictures import PatchFeatures, picture
        from mmmim.visualization.reconstruction import reconstruct

        inputs = data_batch['inputs'][: self.images]
        number, preprocessor = len(inputs), model.data_preprocessor
        images = preprocessor.rgb(inputs)
        shown = images if validation is None else preprocessor.rgb(validation.to(images.device))
        shown = _enlarged(shown)
        names = [f'{i + 1}' for i in range(len(shown))]

        weights, extract = list(encoders(model).items())[-1]
        # Images that are cut into patches with gaps need not divide into patches without.
        height, width = (side // model.backbone.patch_size * model.backbone.patch_size for side in shown.shape[-2:])
        shown = shown[..., :height, :width]
        features = extract(shown)
        examples = [
            PatchFeatures(picture(image, preprocessor), patches.float().cpu(), features.grid, len(image))
            for image, patches in zip(shown, features.patches[-1], strict=True)
        ]
        mask = data_batch['mask'].images(0, number, len(data_batch['inputs']))
        branch = next((b for b in model.branches.values() if isinstance(b.target_generator, PixelTarget)), None)
        if branch is None:
            return (examples, names, weights), None
        with eval_mode(model):
            pictures = reconstruct(model.backbone, branch, preprocessor, images, mask)
        masks = [f'{i + 1}' for i in range(number) for _ in range(mask.num_masks // number)]
        return (examples, names, weights), (pictures, masks, branch.target_generator)

    def _draw(self, features: tuple, reconstructions: tuple | None, folder: str) -> None:
        from mmmim.visualization.feature_pictures import draw_channels
        from mmmim.visualization.reconstruction import draw_reconstructions

        examples, names, weights = features
        channels = min(8, examples[0].patches.shape[1], len(examples[0].patches) - 1)
        path = os.path.join(folder, 'features.png')
        draw_channels(examples, names, 'both', channels, path, f'the {weights}')
        if reconstructions is not None:
            pictures, masks, generator = reconstructions
            path = os.path.join(folder, 'reconstruction.png')
            draw_reconstructions(pictures, masks, path, 'the student', generator.normalize, generator.in_channels)


def _enlarged(images: Tensor) -> Tensor:
    """Images ``[n, C, H, W]`` a whole number of times as large, with a shorter side of at least ``SIDE``."""
    times = -(-SIDE // min(images.shape[-2:]))
    if times == 1:
        return images
    large = F.interpolate(images.float(), scale_factor=times, mode='bicubic')
    return large.round().clamp(0, 255).to(torch.uint8) if images.dtype == torch.uint8 else large
