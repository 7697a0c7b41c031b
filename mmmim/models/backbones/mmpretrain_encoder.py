"""Vision Transformers of mmpretrain."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmmim.checkpoints.stored_config import find_registered
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.internals import quiet_initialisation
from mmmim.utils.options import Positive

from ..data_preprocessors.mim_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from .wrapped import OR_STAGES, WrappedEncoder, is_meta, load_foreign_weights

#: Classes whose blocks know of patches only what was added to them, so that patches can be left out.
PLAIN = ('BEiTViT', 'DeiT3', 'DistilledVisionTransformer', 'MAEViT', 'VisionTransformer')
#: Classes whose blocks form stages of several grids and widths.
STAGED = ('ConvNeXt', 'SwinTransformer', 'SwinTransformerV2')


@MODELS.register_module()
class MMPretrainEncoder(WrappedEncoder):
    """A Vision Transformer of mmpretrain, in the place of :class:`mmmim.ViT`.

    Nothing is downloaded: without ``weights`` the model is random. Models with absolute positions take any image size
    that the patch size divides; of those with relative ones (BEiT), ``img_size`` is the size of the images. All
    can be pre-trained with a mask token, and the classes in :data:`PLAIN`, without relative positions, on visible
    patches, too.

    Args:
        name: Class of a backbone ('VisionTransformer', 'BEiTViT', 'MAEViT', ...), or name of a model in
            ``mmpretrain.list_models()``, such as 'mae_vit-base-p16_8xb512-amp-coslr-800e_in1k', for its backbone.
        weights: Local file of this backbone, or of a whole model of mmpretrain that has it, loaded strictly.
        mean: Mean of every channel, in the 0-255 range, RGB; None for that of the named model, else ImageNet's.
        std: Standard deviation of every channel, in the 0-255 range, RGB; None for that of the named model, else
            ImageNet's.
        fused: Whether a learned mask token stands in the place of every patch that is not visible, instead of leaving
            these out.
        init_cfg: Must stay None; weights come from ``weights``.
        **options: Further arguments of the backbone, e.g. ``arch``, ``img_size``, ``drop_path_rate`` (of the last
            block, from 0 in equal steps).

    Raises:
        InputError: mmpretrain has no such model, it has no patch tokens, or the weights do not fit.
    """

    def __init__(
        self,
        name: str,
        weights: str | Path | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[Positive] | None = None,
        fused: bool = False,
        init_cfg: dict | None = None,
        **options: Any,
    ) -> None:
        super().__init__(init_cfg)
        config, preprocessor = mmpretrain_config(name)
        self.encoder = _build(name, {**config, **options})
        encoder: Any = self.encoder
        size = encoder.patch_embed.projection.kernel_size
        if size[0] != size[1]:
            raise InputError(f'{name} has patches of {size[0]} x {size[1]} pixels: use a model with square ones.')
        self.patch_size, self.embed_dim, self.depth = size[0], encoder.embed_dims, len(encoder.layers)
        self.grid = tuple(encoder.patch_resolution)
        self.num_extra_tokens = encoder.num_extra_tokens
        self.num_cls_tokens = int(encoder.cls_token is not None)
        self.any_size = not any('relative_position' in key for key in encoder.state_dict())
        if type(encoder).__name__ not in PLAIN:
            self.needs_all = f'of mmpretrain only {", ".join(PLAIN)} can leave out patches'
        elif not self.any_size:
            self.needs_all = 'its positions are relative, of all patches'
        if encoder.patch_embed.projection.stride != size:
            self.mixes = 'its patches overlap'
        self._add_mask_token(fused)
        self.mean = list(mean or preprocessor.get('mean') or IMAGENET_MEAN)
        self.std = list(std or preprocessor.get('std') or IMAGENET_STD)
        self.in_channels = encoder.patch_embed.projection.in_channels
        self._check_channels()
        # mmpretrain would norm the output of the last block only; here `norm` does it, of any block.
        self._has_norm, encoder.final_norm = encoder.final_norm, False
        # In pre-training, backbones take the masks that they hide patches by; without one they see whole images.
        self._inputs = {'mask': None} if 'mask' in inspect.signature(encoder.forward).parameters else {}
        if hasattr(encoder, 'mask_token'):
            encoder.mask_token.requires_grad_(False)
        if weights is not None and not is_meta(encoder):
            self.load_weights(weights)
        elif not is_meta(encoder):
            with quiet_initialisation(encoder):
                encoder.init_weights()

    @property
    def blocks(self) -> nn.ModuleList:
        """Blocks, first to last."""
        return self.encoder.layers

    @property
    def norm(self) -> nn.Module:
        """Norm after the last block; none in models that norm pooled tokens instead."""
        return self.encoder.ln1 if self._has_norm else nn.Identity()

    @property
    def patch_embedding(self) -> nn.Module:
        """What makes tokens of patches, before positions."""
        encoder: Any = self.encoder
        return encoder.patch_embed

    def load_weights(self, path: str | Path) -> None:
        """Load a file of mmpretrain strictly; mmpretrain itself adapts position tables to another ``img_size``."""
        load_foreign_weights(self.encoder, path, prefix='backbone.')

    def states(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Outputs of ``blocks``, in ascending order, before the final norm: each ``[B, E + N, D]``."""
        encoder: Any = self.encoder
        encoder.out_indices = blocks
        return list(encoder(images, **self._inputs))

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter and their number, as mmpretrain says."""
        encoder: Any = self.encoder
        return encoder.get_layer_depth(param_name, f'{prefix}encoder.')


def mmpretrain_config(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configs of a backbone and of the data preprocessor of its model.

    Args:
        name: Class of a backbone, or name of a model in ``mmpretrain.list_models()``.

    Raises:
        InputError: mmpretrain has neither.
    """
    from mmpretrain.apis import list_models
    from mmpretrain.apis.model import ModelHub

    bare = name.removeprefix('mmpretrain.')
    if isinstance(find_registered(f'mmpretrain.{bare}'), type):  # never a path of Python modules
        return {'type': bare}, {}
    if name not in list_models():
        close = list_models(f'*{name}*')[:3]
        raise InputError(
            f'mmpretrain has no backbone and no model {name}. '
            + (f'Did you mean {", ".join(close)}?' if close else "mmpretrain.list_models('*vit*') has their names.")
        )
    config = ModelHub.get(name).config
    model = config.model.to_dict()
    return model['backbone'], model.get('data_preprocessor') or (config.get('data_preprocessor') or {})


def create_mmpretrain(what: str, config: dict[str, Any]) -> nn.Module:
    """A backbone of mmpretrain, with random weights that are not initialised yet.

    Args:
        what: What it is to be and what the user calls it, for messages.
        config: Config of the backbone; what it says of ``init_cfg`` is left out.

    Raises:
        InputError: mmpretrain cannot make it.
    """
    from mmpretrain.registry import MODELS as THEIRS

    config = {key: value for key, value in config.items() if key != 'init_cfg'}
    try:
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            return THEIRS.build(config)
    except (TypeError, AssertionError, ValueError) as error:
        raise InputError(f'mmpretrain cannot make {what}: {error}') from error


def _build(name: str, config: dict[str, Any]) -> nn.Module:
    config = {key: value for key, value in config.items() if key != 'out_indices'}
    if config['type'] in STAGED:
        raise InputError(f'{name} of mmpretrain has no blocks of patch tokens: use a Vision Transformer{OR_STAGES}.')
    what = f'a Vision Transformer of {name}, with tokens as output'
    encoder = create_mmpretrain(what, {**config, 'out_type': 'raw'})
    if not all(hasattr(encoder, part) for part in ('layers', 'patch_embed', 'final_norm', 'get_layer_depth')):
        raise InputError(f'{name} of mmpretrain has no blocks of patch tokens: use a Vision Transformer.')
    return encoder
