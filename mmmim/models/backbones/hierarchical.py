"""Hierarchical encoders of timm and mmpretrain: Swin Transformers and ConvNeXts, whose stages halve their grids."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask
from mmmim.utils import InputError
from mmmim.utils.internals import quiet_initialisation
from mmmim.utils.options import Positive, Size

from ..data_preprocessors.mim_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from ..layers import patch_grid
from .mmpretrain_encoder import STAGED, create_mmpretrain, mmpretrain_config
from .timm_encoder import create_timm
from .wrapped import WrappedEncoder, is_meta, load_foreign_weights


@dataclass(frozen=True)
class _Parts:
    """What the parts of a hierarchical model are called.

    Attributes:
        stem: What makes the first tokens of pixels.
        stages: The stages, first to last.
        blocks: The blocks of a stage; empty where the stage is their list.
        norm: The norm after the last stage, whose number is ``{last}``.
        channels_first: Whether maps are ``[B, D, h, w]``, not ``[B, h, w, D]`` or ``[B, N, D]``.
    """

    stem: str
    stages: str
    blocks: str
    norm: str
    channels_first: bool = False


_SWIN = {'timm': _Parts('patch_embed', 'layers', 'blocks', 'norm')}
_SWIN['mmpretrain'] = _Parts('patch_embed', 'stages', 'blocks', 'norm{last}')
#: By library and class.
FAMILIES = {
    'timm': {
        'ConvNeXt': _Parts('stem', 'stages', 'blocks', 'norm_pre', channels_first=True),
        'SwinTransformer': _SWIN['timm'],
        'SwinTransformerV2': _SWIN['timm'],
    },
    'mmpretrain': {
        'ConvNeXt': _Parts('downsample_layers.0', 'stages', '', 'norm{last}', channels_first=True),
        'SwinTransformer': _SWIN['mmpretrain'],
        'SwinTransformerV2': _SWIN['mmpretrain'],
    },
}
#: Names of their models in both libraries, and of mmpretrain's classes.
_NAMES = re.compile(
    rf'timm:(swin|swinv2|convnext|convnextv2)_|mmpretrain:({"|".join(STAGED)}$|(swin|swinv2|convnext)-)'
)


def is_hierarchical(name: str) -> bool:
    """Whether a name, 'timm:NAME' or 'mmpretrain:NAME', is that of a model of :class:`HierarchicalEncoder`."""
    return bool(_NAMES.match(name))


@MODELS.register_module()
class HierarchicalEncoder(WrappedEncoder):
    """A Swin Transformer or ConvNeXt of timm or mmpretrain, in the place of :class:`mmmim.ViT`.

    A patch is what a token of the **last stage** stands for, 32 pixels wide in nearly all of them; ``embed_dim`` is the
    width of that stage, and blocks are its blocks, ``depth`` many. Windows and convolutions need the whole grid, so no
    patch can be left out: with ``fused=True`` a learned mask token stands behind the stem in the place of all tokens of
    a hidden patch (SimMIM, arXiv 2111.09886, section 3.2), and everything runs.

    Nothing is downloaded: without ``weights`` the model is random, with linear layers of std 0.02 as in SimMIM. Where
    the library norms pooled features instead of tokens (timm's ConvNeXt without ``head_norm_first``, mmpretrain's
    without ``gap_before_final_norm=False``), there is no norm after the last block. Of timm this needs
    ``pip install "mmmim[timm]"``.

    Args:
        name: 'timm:NAME', a model of ``timm.create_model`` ('timm:swin_base_patch4_window7_224'), or 'mmpretrain:NAME',
            a class ('mmpretrain:SwinTransformer') or a model of ``mmpretrain.list_models()``.
        img_size: Side, or (height, width), of the images that it was trained on; None for the library's.
        weights: Local file of this model in the library's layout, loaded strictly.
        mean: Mean of every channel, in the 0-255 range, RGB; None for the library's, else ImageNet's.
        std: Standard deviation of every channel, in the 0-255 range, RGB; None for the library's, else ImageNet's.
        fused: Whether it is pre-trained, with a learned mask token in the place of every patch that is not visible.
        init_cfg: Must stay None; weights come from ``weights``.
        **options: Further arguments of the library's model, e.g. ``window_size``, ``drop_path_rate``.

    Raises:
        InputError: The library is missing or has no such model, it is of another kind, its windows do not divide the
            grids of its stages, or the weights do not fit.
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
        self.library, _, bare = name.partition(':')
        if self.library not in FAMILIES or not bare:
            raise InputError(f'HierarchicalEncoder.name={name!r}: write timm:NAME or mmpretrain:NAME.')
        if self.library == 'timm':
            statistics, size = self._of_timm(bare, img_size, options)
        else:
            statistics, size = self._of_mmpretrain(bare, img_size, options)
        encoder: Any = self.encoder
        self._parts = FAMILIES[self.library][type(encoder).__name__]
        self.channels_first = self._parts.channels_first
        self.any_graph = self.channels_first  # windows pad maps, each size in its own way
        if self.library == 'mmpretrain' and not self.channels_first:
            self.no_graph = "mmpretrain's windows count on one number of images; timm has the same models without that"
        self.stages = len(self._stages())
        conv = next(module for module in self.patch_embedding.modules() if isinstance(module, nn.Conv2d))
        strides = [info['reduction'] for info in getattr(encoder, 'feature_info', ())]
        self.stem_tokens = strides[-1] // strides[0] if strides else 2 ** (self.stages - 1)
        self.patch_size = strides[-1] if strides else conv.stride[0] * self.stem_tokens
        if conv.kernel_size != conv.stride or conv.stride[0] != conv.stride[1]:
            self.mixes = f'its stem is a convolution of {conv.kernel_size[0]} pixels, which sees more than one at once'
        self.needs_all = 'it is hierarchical, and its stages need the whole grid (fused=True puts mask tokens there)'
        self.grid = patch_grid((size, size) if isinstance(size, int) else (size[0], size[1]), self.patch_size)
        self.depth, self.in_channels = len(self.blocks), conv.in_channels
        if self.library == 'timm':
            self.embed_dim = encoder.num_features
        else:
            self.embed_dim = encoder.channels[-1] if self.channels_first else self._stages()[-1].out_channels
        self.mean = list(mean or statistics.get('mean') or IMAGENET_MEAN)
        self.std = list(std or statistics.get('std') or IMAGENET_STD)
        self._check_channels()
        self._check_windows(self.grid, whole=True)
        self._add_mask_token(fused, conv.out_channels)
        if weights is not None and not is_meta(encoder):
            self.load_weights(weights)

    def _of_timm(self, name: str, img_size: Size | None, options: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Make a model of timm; its statistics and the size of its images."""
        sizes: dict[str, Any] = {} if name.startswith('convnext') or img_size is None else {'img_size': img_size}
        if name.startswith('swin'):  # what `dynamic_img_size` stands for, which timm's older ones ignore
            sizes['strict_img_size'] = False
        self.encoder, self.any_size = create_timm('mmmim.HierarchicalEncoder', name, **{**sizes, **options})
        encoder: Any = self.encoder
        _check_family('timm', name, type(encoder).__name__)
        published = encoder.pretrained_cfg
        if type(encoder).__name__ == 'ConvNeXt':
            self.any_size = True
            # Of pooled tokens, for classifiers: parameters without gradients would stop data-parallel training.
            encoder.head = nn.Identity()
            img_size = img_size or published['input_size'][-2:]
        statistics = {key: [round(255 * value, 4) for value in published[key]] for key in ('mean', 'std')}
        return statistics, img_size or encoder.patch_embed.img_size

    def _of_mmpretrain(self, name: str, img_size: Size | None, options: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Make a model of mmpretrain; its statistics and the size of its images."""
        config, statistics = mmpretrain_config(name)
        config = {**config, **options}
        _check_family('mmpretrain', name, config['type'].removeprefix('mmpretrain.'))
        arch = config.get('arch')
        last = (len(arch['depths']) if isinstance(arch, dict) and 'depths' in arch else 4) - 1
        if 'ConvNeXt' not in config['type'] and img_size is not None:
            config['img_size'] = img_size
        with _NumbersOnCPU():
            self.encoder = create_mmpretrain(f'a hierarchical encoder of {name}', {**config, 'out_indices': (last,)})
        encoder: Any = self.encoder
        if getattr(encoder, 'gap_before_final_norm', False):
            getattr(encoder, f'norm{last}').requires_grad_(False)  # kept, since files of weights hold it
        for part in encoder.modules():
            if isinstance(windows := getattr(part, 'w_msa', None), nn.Module):
                windows.register_forward_pre_hook(_mask_of_their_type, with_kwargs=True)
        if not is_meta(encoder):
            with quiet_initialisation(encoder):
                encoder.init_weights()
            for layer in encoder.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.trunc_normal_(layer.weight, std=0.02)
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
        stem = getattr(encoder, 'patch_embed', None)  # ConvNeXt's knows no size
        return statistics, img_size or (224 if stem is None else stem.init_input_size)

    def _stages(self) -> list[Any]:
        return list(self.encoder.get_submodule(self._parts.stages).children())

    def _blocks_of(self, stage: Any) -> Any:
        return stage.get_submodule(self._parts.blocks)

    @property
    def blocks(self) -> nn.ModuleList:
        """Blocks of the last stage, first to last."""
        return self._blocks_of(self._stages()[-1])

    @property
    def norm(self) -> nn.Module:
        """Norm after the last block, for tokens; none in models that norm pooled features instead."""
        norm = self.encoder.get_submodule(self._parts.norm.format(last=self.stages - 1))
        if isinstance(norm, nn.Identity) or getattr(self.encoder, 'gap_before_final_norm', False):
            return nn.Identity()
        return _OfTokens(norm) if self.channels_first else norm

    @property
    def patch_embedding(self) -> nn.Module:
        """The stem, which makes the first tokens, several of a patch."""
        return self.encoder.get_submodule(self._parts.stem)

    @property
    def attentions(self) -> list[Any]:
        """None of them sees all tokens: what attends in a window tells no attention of patches."""
        return [None] * self.depth

    def load_weights(self, path: str | Path) -> None:
        """Load a file of the library strictly."""
        load_foreign_weights(self.encoder, path, prefix='' if self.library == 'timm' else 'backbone.')

    def states(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Outputs of ``blocks`` of the last stage, in ascending order, before the final norm: each ``[B, N, D]``."""
        encoder: Any = self.encoder
        run = encoder.forward_features if self.library == 'timm' else encoder
        found = self._outputs(blocks, lambda: run(images))
        return [x.flatten(2).transpose(1, 2) if self.channels_first else x.flatten(1, -2) for x in found]

    def forward(
        self, images: Tensor, mask: PatchMask | None = None, layers: Sequence[int] = (), depth: int | None = None
    ) -> Context:
        """Encode, see :meth:`WrappedEncoder.forward`; ``layers`` and ``depth`` count blocks of the last stage.

        Args:
            images: ``[B, C, H, W]``, normalised.
            mask: Mask whose visible patches are seen, with ``fused=True``; None for the whole images.
            layers: Blocks of the last stage whose output to keep in ``hidden``, negative ones from the end.
            depth: How many blocks of the last stage to run before the final norm; None for all.

        Returns:
            Context with ``visible [G, N, D]`` of the last stage, and no extra tokens.

        Raises:
            InputError: As there, or a map of the images is smaller than a window that the library does not pad.
        """
        self._check_windows(patch_grid(images.shape[-2:], self.patch_size))
        return super().forward(images, mask, layers, depth)

    def _check_windows(self, grid: tuple[int, int], whole: bool = False) -> None:
        """Refuse grids of the last stage that windows of a stage do not fit; none where stages have no windows.

        Args:
            grid: Rows and columns of patches of the images.
            whole: Whether windows must divide their grids, as those of the images that it is trained on; of others the
                libraries pad maps.
        """
        for number, stage in enumerate(self._stages()):
            attention: Any = getattr(self._blocks_of(stage)[0], 'attn', None)
            if attention is None:
                return
            window, pads = attention.window_size, getattr(attention, 'pad_small_map', self.library == 'timm')
            window = (window, window) if isinstance(window, int) else tuple(window)
            sides = tuple(side * 2 ** (self.stages - 1 - number) for side in grid)
            small = any(side < one for side, one in zip(sides, window, strict=True))
            if small and not pads:
                reason = 'fewer than'
            elif whole and not small and any(side % one for side, one in zip(sides, window, strict=True)):
                reason = 'no multiple of'
            else:
                continue
            raise InputError(
                f'Images of {grid[0] * self.patch_size} x {grid[1] * self.patch_size} pixels have {sides[0]} x '
                f'{sides[1]} tokens in stage {number} of the {type(self.encoder).__name__}, {reason} its windows of '
                f'{window[0]} x {window[1]}: set img_size, the size of the images, to a multiple of '
                f'{math.lcm(*window) * self.patch_size}, or window_size to a divisor'
                + (', or pad_small_map=True.' if small else '.')
            )

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter and their number, over the blocks of all stages; as mmpretrain says, where it does.

        What merges tokens before a stage belongs to the last block before it.
        """
        encoder: Any = self.encoder
        ours = f'{prefix}encoder.'
        if hasattr(encoder, 'get_layer_depth'):
            return encoder.get_layer_depth(param_name, ours)
        depths = [len(self._blocks_of(stage)) for stage in self._stages()]
        total, name = sum(depths), param_name.removeprefix(ours)
        if not param_name.startswith(ours):
            return total + 1, total + 2
        if match := re.match(rf'{self._parts.stages}\.(\d+)\.(?:{self._parts.blocks}\.(\d+))?', name):
            before = sum(depths[: int(match[1])])
            return before if match[2] is None else before + int(match[2]) + 1, total + 2
        return 0 if name.startswith(f'{self._parts.stem}.') else total + 1, total + 2


class _OfTokens(nn.Module):
    """A norm of maps ``[B, D, h, w]``, for tokens ``[B, N, D]``."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(tokens.transpose(1, 2).unsqueeze(-1)).squeeze(-1).transpose(1, 2)


def _mask_of_their_type(module: nn.Module, inputs: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Give an attention of mmpretrain its mask of shifted windows in the precision of its tokens, not in fp32."""
    mask = options.get('mask')
    return inputs, options if mask is None else {**options, 'mask': mask.to(inputs[0].dtype)}


class _NumbersOnCPU(TorchFunctionMode):
    """While it is open, ``torch.linspace`` has values: mmpretrain reads rates of stochastic depth from it.

    On the meta device, where models are built to be looked at, there would be none.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        more = {'device': 'cpu'} if func is torch.linspace else {}
        return func(*args, **{**more, **(kwargs or {})})


def _check_family(library: str, name: str, kind: str) -> None:
    if kind not in FAMILIES[library]:
        raise InputError(
            f'{library}:{name} is a {kind}, and hierarchical encoders are {", ".join(FAMILIES[library])}: for a Vision '
            f'Transformer use mmmim.{"Timm" if library == "timm" else "MMPretrain"}Encoder.'
        )
