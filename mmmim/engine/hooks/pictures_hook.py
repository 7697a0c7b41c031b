"""Pictures of what a model has learned, in the work folder."""

from __future__ import annotations

import os
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import Hook

from mmmim.engine.ddp import bare_model, gathered, takes_part
from mmmim.features.extraction import encoders, eval_mode
from mmmim.models import MaskedImageModeling
from mmmim.models.target_generators.pixels import PixelTarget
from mmmim.registry import HOOKS
from mmmim.utils import InputError
from mmmim.utils.options import Natural


@HOOKS.register_module()
class PicturesHook(Hook):
    """Draw images of the last batch at the end of training.

    ``features.png``: principal components of patch features, of the teacher where there is one (CAPI, arXiv
    2502.08769, figure 13). ``reconstruction.png``: of models with pixel targets (MAE, arXiv 2111.06377, figure 2). For
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
                features, reconstructions = self._look(model, data_batch)
            if is_main_process():
                self._draw(features, reconstructions, runner.work_dir)
        except (OSError, RuntimeError, InputError) as error:  # a picture must not end a training
            runner.logger.warning(f'No pictures in {runner.work_dir}: {error}')

    def _look(self, model: Any, data_batch: Any) -> tuple[tuple, tuple | None]:
        """What to draw; all forward passes come before the first file is written."""
        # They need the data sets of mmpretrain and matplotlib, which take seconds to import.
        from mmmim.visualization.feature_pictures import PatchFeatures, picture
        from mmmim.visualization.reconstruction import reconstruct

        inputs = data_batch['inputs'][: self.images]
        number, preprocessor = len(inputs), model.data_preprocessor
        images = preprocessor.rgb(inputs)
        names = [f'{i + 1}' for i in range(number)]

        weights, extract = list(encoders(model).items())[-1]
        # Images that are cut into patches with gaps need not divide into patches without.
        height, width = (side // model.backbone.patch_size * model.backbone.patch_size for side in images.shape[-2:])
        shown = images[..., :height, :width]
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
        masks = [name for name in names for _ in range(mask.num_masks // number)]
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
