"""Vision Transformers of timm."""

import difflib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.options import Positive, Size

from ..layers import parameter_layer
from .timm_layouts import of_authors
from .wrapped import OR_STAGES, WrappedEncoder, is_meta, load_foreign_weights

#: Options of timm that load weights.
_READS = {'pretrained', 'pretrained_cfg', 'pretrained_cfg_overlay', 'pretrained_strict', 'checkpoint_path', 'cache_dir'}


@MODELS.register_module()
class TimmEncoder(WrappedEncoder):
    """A Vision Transformer of timm, in the place of :class:`mmmim.ViT`.

    Needs ``pip install "mmmim[timm]"``. Nothing is downloaded: without ``weights`` the model is random. Models with
    absolute or rotary positions take any image size that the patch size divides. timm's ``VisionTransformer`` can be
    pre-trained on visible patches, others with a mask token.

    Args:
        name: Name of a model of ``timm.create_model``, e.g. 'vit_base_patch14_reg4_dinov2.lvd142m'.
        img_size: Side, or (height, width), of the images that it was trained on; None for timm's.
        weights: Local file of this model in timm's layout (``.safetensors``, ``.bin``, ``.pth``), loaded strictly.
        mean: Mean of every channel, in the 0-255 range, RGB; None for that of timm's ``pretrained_cfg``.
        std: Standard deviation of every channel, in the 0-255 range, RGB; None for that of timm's ``pretrained_cfg``.
        fused: Whether a learned mask token stands in the place of every patch that is not visible, instead of leaving
            these out.
        init_cfg: Must stay None; weights come from ``weights``.
        **options: Further arguments of timm's model, e.g. ``drop_path_rate`` (of the last block, from 0 in equal
            steps).

    Raises:
        InputError: timm is missing or has no such model, it has no patch tokens, or the weights do not fit.
    """

    def __init__(
        self,
        name: str,
        img_size: Size | None = None,
        weights: str | Path | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[Positive] | None = None,
        fused: bool = False,
        init_cfg: dict | None = None,
        **options: Any,
    ) -> None:
        super().__init__(init_cfg)
        self.encoder, self.any_size = create_timm('mmmim.TimmEncoder', name, img_size=img_size, **options)
        encoder: Any = self.encoder
        size = getattr(getattr(encoder, 'patch_embed', None), 'patch_size', None)
        needed = ('blocks', 'norm', 'num_prefix_tokens', 'forward_intermediates')
        if size is None or size[0] != size[1] or not all(hasattr(encoder, part) for part in needed):
            raise InputError(
                f'{name} of timm has no blocks of square patch tokens: use a Vision Transformer{OR_STAGES}.'
            )
        self.patch_size, self.embed_dim, self.depth = size[0], encoder.embed_dim, len(encoder.blocks)
        self.grid = tuple(encoder.patch_embed.grid_size)
        self.num_extra_tokens = encoder.num_prefix_tokens
        self.num_cls_tokens = int(getattr(encoder, 'cls_token', None) is not None)
        # Of pooled tokens, for classifiers: parameters without gradients would stop data-parallel training.
        encoder.fc_norm = nn.Identity()
        if (pool := getattr(encoder, 'attn_pool', None)) is not None:
            pool.requires_grad_(False)  # kept, since files of weights hold it
        published = encoder.pretrained_cfg
        self.mean = list(mean or (round(255 * value, 4) for value in published['mean']))
        self.std = list(std or (round(255 * value, 4) for value in published['std']))
        self.in_channels = next(iter(encoder.patch_embed.parameters())).shape[1]  # its stem, where it has one
        self._check_channels()
        self.needs_all, self.mixes = _needs_all(encoder), _mixes(encoder)
        self._add_mask_token(fused)
        if weights is not None and not is_meta(self.encoder):
            self.load_weights(weights)

    @property
    def blocks(self) -> nn.ModuleList:
        """Blocks, first to last."""
        return self.encoder.blocks

    @property
    def projection(self) -> nn.Module | None:
        """The last linear layer, which models have with ``num_classes``: of CLIP the projection, of 512 or 768."""
        return self.encoder.head if getattr(self.encoder, 'num_classes', 0) else None

    @property
    def norm(self) -> nn.Module:
        """Norm after the last block; none in models that norm pooled tokens instead."""
        return self.encoder.norm

    @property
    def patch_embedding(self) -> nn.Module:
        """What makes tokens of patches, before positions."""
        return self.encoder.patch_embed

    def load_weights(self, path: str | Path) -> None:
        """Load a file of timm, or of the authors of DINOv2 or CLIP, strictly."""
        load_foreign_weights(self.encoder, path, adapt=of_authors)

    def states(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Outputs of ``blocks``, in ascending order, before the final norm: each ``[B, E + N, D]``."""
        outputs = self.encoder.forward_intermediates(
            images,
            indices=list(blocks),
            return_prefix_tokens=bool(self.num_extra_tokens),  # Eva fails where there are none
            stop_early=True,
            output_fmt='NLC',
            intermediates_only=True,
        )
        if not self.num_extra_tokens:
            return outputs
        return [torch.cat([prefix, patches], dim=1) for patches, prefix in outputs]

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter and their number, see :meth:`mmmim.models.Encoder.get_layer_depth`."""
        return parameter_layer(param_name, f'{prefix}encoder.', self.depth), self.depth + 2


def _needs_all(encoder: Any) -> str:
    """Why a model cannot leave patches out, see :class:`WrappedEncoder`; empty where it can."""
    from timm.models.vision_transformer import VisionTransformer

    if isinstance(encoder, VisionTransformer):
        return ''
    return "it is no VisionTransformer of timm's, and its blocks count on the places of all patches"


def _mixes(encoder: Any) -> str:
    """Why patches are not apart before the blocks, see :class:`WrappedEncoder`; empty where they are."""
    from timm.layers import PatchEmbed

    if type(encoder.patch_embed) is not PatchEmbed:
        return f'its patches are embedded by a {type(encoder.patch_embed).__name__}, which sees more than one at once'
    if not isinstance(getattr(encoder, 'patch_drop', None) or nn.Identity(), nn.Identity):
        return 'with patch_drop_rate it leaves out patches itself, others than the mask'
    return ''


def create_timm(owner: str, name: str, **options: Any) -> tuple[nn.Module, bool]:
    """A model of timm without a classifier, and whether it takes any image size.

    Args:
        owner: The encoder that wants it, for messages.
        name: Name of the model.
        **options: Arguments of the model.

    Raises:
        InputError: timm is missing, has no such model or cannot make it so, or an option would read files.
    """
    if find_spec('timm') is None:
        raise InputError(f'{owner} needs the library timm: pip install "mmmim[timm]"')
    import timm

    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3)
        hint = f'Did you mean {", ".join(close)}?' if close else "timm.list_models('vit*') has their names."
        raise InputError(f'timm {timm.__version__} has no model {name}. {hint}')
    if reads := sorted(set(options) & _READS):
        raise InputError(
            f'{owner}.{reads[0]}: timm itself would read or download what this names, without comparing it '
            'with the model. Give a local file as weights.'
        )
    options = {'pretrained': False, 'num_classes': 0, **options}
    try:
        try:
            return timm.create_model(name, dynamic_img_size=True, **options), True
        except TypeError as error:
            if 'dynamic_img_size' not in str(error):
                raise
            return timm.create_model(name, **options), False
    except (TypeError, RuntimeError, ValueError) as error:
        raise InputError(f'timm cannot make {name} with {options}: {error}') from error
