"""A pre-trained encoder as a backbone of mmpretrain or mmsegmentation."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmim.checkpoints import check_state_dict
from mmmim.checkpoints.pretrained import LATER, PLACEHOLDER, RANDOM
from mmmim.converters.published import find_weights
from mmmim.models.backbones.wrapped import WrappedEncoder
from mmmim.models.interfaces import Encoder, PoolingNeck, check_part, check_sizes
from mmmim.models.layers import block_index, layer_index
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.nested import under
from mmmim.utils.options import Count, ShareBelowOne

from .extraction import extract_features
from .names import FeatureName
from .stored_encoder import StoredEncoder

#: Names of mmpretrain for outputs of its Vision Transformers, in the vocabulary of features; 'featmap' is in both.
_THEIR_NAMES = {'raw': 'tokens', 'cls_token': 'cls', 'avg_featmap': 'pooled'}


def feature_of(out_type: str) -> FeatureName:
    """The feature that an ``out_type`` of :class:`PretrainedBackbone` asks for.

    Raises:
        InputError: There is no such feature.
    """
    return FeatureName.of(_THEIR_NAMES.get(out_type, out_type))


def features_of(out_type: str | Sequence[str]) -> tuple[FeatureName, ...]:
    """The features that an ``out_type`` asks for, one or several.

    Raises:
        InputError: There is no such feature, or none is named.
    """
    names = [out_type] if isinstance(out_type, str) else list(out_type)
    if not names:
        raise InputError('PretrainedBackbone.out_type names no feature: give one, such as pooled.')
    return tuple(map(feature_of, names))


def rounded_share(side: Any, patch: int) -> Any:
    """``round(side / patch)`` in whole numbers, which tracing and export follow; halves go to the even neighbour."""
    whole, rest = side // patch, side % patch
    return whole + (2 * rest + patch - 1 + whole % 2) // (2 * patch)


@MODELS.register_module()
class PretrainedBackbone(BaseModule):
    """A pre-trained encoder giving features of any kind: by default maps.

    Outputs follow the convention of mmpretrain and mmsegmentation: a tuple with one for each of ``out_indices``, maps
    ``[B, D, h, w]`` without registers. Each is of its block alone; what is concatenated stands in the name of the
    feature, so that ``out_type='cls@-2+cls@-1'`` gives the CLS token of the last two blocks side by side. Of several
    names (``out_type=['cls', 'pooled', 'patches']``) it has every one at each of ``out_indices``, the blocks of the
    first name first; the images pass through the encoder once. Images whose sides the patch size does not divide are
    resized to the nearest size that it does.

    All weights of the encoder come from ``checkpoint``, or construction fails; mmengine never initialises them. Blocks
    after the last one that is read are not computed (but in encoders of mmpretrain and transformers). They and what
    else the outputs do not depend on (a projector, mask tokens) get no gradients, which data-parallel training would
    wait for.

    Args:
        checkpoint: Training checkpoint of mmmim, converted file, or name of published weights; with an ``encoder`` of
            another library, its file. 'random': random weights, with ``encoder``. 'load_from': the weights come with
            those of the whole model, from ``load_from`` of a runner.
        weights: 'ema' (the teacher), 'student', or 'auto': the teacher's where there are any.
        encoder: Config of the encoder: ``mmmim.ViT``, ``mmmim.TimmEncoder``, ``mmmim.MMPretrainEncoder``,
            ``mmmim.HuggingFaceEncoder``, ``mmmim.HierarchicalEncoder``; None for that of the checkpoint.
        out_indices: Blocks whose features to return, see :func:`block_index`.
        frozen: Whether the encoder stays in eval mode and gets no gradients.
        final_norm: Whether the encoder's final norm is applied to tokens, of any block; a mean before the norm is
            'pooled_raw' with either.
        stride: Resize maps (bilinear) to one cell for so many pixels, rounded up, where the encoder has other ones.
        drop_path_rate: Stochastic depth of the last block, from 0 at the first in equal steps (BEiT); None for the
            encoder's own.
        out_type: Name of the feature, see :meth:`mmmim.features.LayerFeatures.pool`, or a list of names; or
            mmpretrain's name: 'featmap', 'raw' (all tokens), 'cls_token' (their mean where there are several),
            'avg_featmap' (the mean of the patches through a LayerNorm, ``ln2``, which is trained with the head unless
            ``frozen``).
        predictor: Config of the neck that makes the feature 'predicted'; None for that of the checkpoint.
        init_cfg: Must stay None; weights come from ``checkpoint``.

    Raises:
        InputError: There is no checkpoint, it does not fit (naming the keys), there is no block of an index, or the
            encoder has no such feature.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        weights: str = 'auto',
        encoder: Mapping[str, Any] | None = None,
        out_indices: Sequence[int | float] = (-1,),
        frozen: bool = False,
        final_norm: bool = True,
        stride: Count | None = None,
        drop_path_rate: ShareBelowOne | None = None,
        out_type: str | Sequence[str] = 'featmap',
        predictor: Mapping[str, Any] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__()
        if init_cfg is not None:
            raise InputError('PretrainedBackbone takes no init_cfg: its weights are those of its checkpoint.')
        self.features = features_of(out_type)
        if stride is not None and {feature.kind for feature in self.features} != {'featmap'}:
            raise InputError(
                f"PretrainedBackbone.stride is of maps, out_type='featmap', not of {out_type!r}: leave it out."
            )
        self.backbone, stored = build_encoder(checkpoint, weights, encoder, drop_path_rate)
        self.predictor: PoolingNeck | None = None
        for feature in self.features:
            _check_feature(feature, self.backbone)
            if feature.predicts and self.predictor is None:
                self.predictor = _build_predictor(self.backbone, feature, checkpoint, stored, predictor)
        self.out_indices = tuple(block_index(index, self.backbone.depth) for index in out_indices)
        if len(self.out_indices) > 1 and (same := [name.text for name in self.features if not name.of_a_block]):
            raise InputError(
                f'The feature {same[0]!r} is the same for every block, and out_indices are {list(out_indices)}: give '
                'one of them.'
            )
        self.ln2 = nn.LayerNorm(self.backbone.embed_dim, eps=1e-6) if out_type == 'avg_featmap' else None
        self.frozen, self.final_norm, self.stride = frozen, final_norm, stride
        self._has_weights = checkpoint != LATER
        self._freeze_unused()
        if frozen:
            self.requires_grad_(False).eval()

    @property
    def embed_dim(self) -> int:
        """Width D of the encoder's tokens."""
        return self.backbone.embed_dim

    @property
    def feature_dims(self) -> tuple[int | None, ...]:
        """Channels C of each of the ``features``; None where they depend on the number of patches."""
        predicted = None if self.predictor is None else self.predictor.out_dim
        return tuple(feature.width(self.embed_dim, predicted) for feature in self.features)

    @property
    def _layers(self) -> tuple[int, ...]:
        """Blocks that are read: ``out_indices``, then those that the features name."""
        named = dict.fromkeys(block for feature in self.features for block in feature.blocks)
        return (*self.out_indices, *(layer_index(block, self.backbone.depth) for block in named))

    def init_weights(self) -> None:
        """Leave the weights alone: they are the checkpoint's."""

    def train(self, mode: bool = True) -> 'PretrainedBackbone':
        """Set the mode; a frozen encoder stays in eval mode."""
        super().train(mode)
        if self.frozen:
            for part in self.children():
                part.eval()
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter and their number, see :meth:`mmmim.ViT.get_layer_depth`."""
        return self.backbone.get_layer_depth(param_name, f'{prefix}backbone.')

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features of normalised images ``[B, 3, H, W]``, such as maps ``[B, D, h, w]``.

        Of every name in ``out_type`` one for each of ``out_indices``.

        ``torch.export`` can keep the number of images and their sides open. ``torch.jit.trace`` keeps the grid of its
        example: other images must have as many patches, or the trace ends with an error.

        Raises:
            InputError: The weights that ``checkpoint='load_from'`` promised were never loaded.
        """
        if not self._has_weights:
            raise InputError('The encoder has no weights yet: load those of the whole model (load_from) first.')
        height, width = images.shape[-2:]
        patch = self.backbone.patch_size
        fitting = [max(rounded_share(side, patch), 1) * patch for side in (height, width)]
        # A trace keeps what it saw done: it resizes always, to the size that fits the images it is given.
        if torch.jit.is_tracing() or fitting != [height, width]:
            images = F.interpolate(images, fitting, mode='bilinear', align_corners=False)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            features = extract_features(self.backbone, images, self.predictor, self._layers, self.final_norm)
            outputs = []
            for name in self.features:
                for place in range(len(self.out_indices)):
                    each: Any = features.read(name, place)  # constructed, the encoder has the feature
                    if self.ln2 is not None:
                        each = self.ln2(each)
                    if name.kind == 'featmap':
                        each = self._resized(each.contiguous(), (height, width))
                    outputs.append(each)
            return tuple(outputs)

    def _resized(self, feature_map: Tensor, size: tuple[Any, Any]) -> Tensor:
        """A map at ``stride``, of images of a size in pixels."""
        if self.stride is None:
            return feature_map
        cells = (-(-size[0] // self.stride), -(-size[1] // self.stride))
        if torch.jit.is_tracing() or cells != feature_map.shape[-2:]:
            return F.interpolate(feature_map, cells, mode='bilinear', align_corners=False)
        return feature_map

    def _freeze_unused(self) -> None:
        normed = self.predictor is not None or (self.final_norm and any(name.normed for name in self.features))
        depth = max(self._layers) + 1 if self.predictor is None else None
        for part in (*self.backbone.unread(depth, normed), *(self.predictor.unread() if self.predictor else ())):
            part.requires_grad_(False)

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        # Called by torch and by mmengine, whose runner would only log keys that do not fit.
        own = under(state_dict, prefix)
        if own:
            check_state_dict(self, own, f'What is loaded ({prefix}*)')
            self._has_weights = True
        super()._load_from_state_dict(state_dict, prefix, *args)


def build_encoder(
    checkpoint: str | Path | None, weights: str, encoder: Mapping[str, Any] | None, drop_path_rate: float | None = None
) -> tuple[Encoder, StoredEncoder | None]:
    """An encoder with its weights; arguments and errors of :class:`PretrainedBackbone`.

    Returns:
        The encoder, and the checkpoint that it comes from where that is one of mmmim.
    """
    if checkpoint is None or str(checkpoint).startswith(PLACEHOLDER):
        raise InputError(
            'PretrainedBackbone has no checkpoint: give one to the tool (--pretrained FILE) or in the config '
            f"(model.backbone.checkpoint). checkpoint='{RANDOM}' with an encoder asks for random weights."
        )
    checkpoint, named = find_weights(checkpoint, foreign=encoder is not None and is_wrapped(encoder))
    if encoder is None and named is not None:
        raise InputError(f'PretrainedBackbone: these are weights of {named}: name that as encoder, or --pretrained.')
    stored: StoredEncoder | None = None
    if checkpoint in (RANDOM, LATER):
        if encoder is None:
            raise InputError(f"PretrainedBackbone: checkpoint='{checkpoint}' needs the config of an encoder.")
        if checkpoint == RANDOM:
            print_log(
                'The encoder has RANDOM weights, as asked for: nothing is pre-trained.', 'current', logging.WARNING
            )
        config = {**encoder, 'weights': None} if is_wrapped(encoder) else dict(encoder)
    elif encoder is not None and is_wrapped(encoder):
        if weights != 'auto':
            raise InputError(f'{checkpoint} is of another library and holds one set of weights: leave weights out.')
        config = {**encoder, 'weights': str(checkpoint)}
    else:
        stored = StoredEncoder.of(checkpoint, weights)
        config = dict(encoder or stored.model['backbone'])
    if drop_path_rate is not None:
        config['drop_path_rate'] = drop_path_rate if is_wrapped(config) else (0.0, drop_path_rate)
    backbone = MODELS.build(config) if stored is None else stored.build(config)
    if checkpoint not in (RANDOM, LATER):
        kind = '' if stored is None else f'{weights} '
        print_log(f'Encoder: {config["type"]}, {kind}weights of {checkpoint}.', logger='current')
    return check_part(backbone, Encoder, 'PretrainedBackbone.encoder'), stored


def _check_feature(feature: FeatureName, encoder: Encoder) -> None:
    """Refuse a feature of tokens that the encoder does not have."""
    registers = encoder.num_extra_tokens - encoder.num_cls_tokens
    if lacking := feature.lacking(encoder.num_cls_tokens, registers):
        raise InputError(
            f'The encoder has no feature {", ".join(lacking)}, with {encoder.num_cls_tokens} CLS tokens or proxies and '
            f'{registers} registers: choose another one than {feature.text!r}, such as pooled.'
        )


def _build_predictor(
    encoder: Encoder,
    feature: FeatureName,
    checkpoint: str | Path | None,
    stored: StoredEncoder | None,
    config: Mapping[str, Any] | None,
) -> PoolingNeck:
    """The predictor of an encoder, with its weights."""
    asked = f"The feature {feature.text!r} needs a predictor that sums up an image, as CAPI's does"
    if isinstance(encoder, WrappedEncoder):
        raise InputError(f'{asked}, and encoders of other libraries have none: choose another feature, such as pooled.')
    if stored is None:
        if config is None:
            raise InputError(f"{asked}: checkpoint='{checkpoint}' needs its config too, as predictor.")
        predictor = MODELS.build(dict(config))
    elif (predictor := stored.build_predictor(config)) is None:
        raise InputError(
            f'{asked}, and {checkpoint} has none with its {stored.weights} weights: choose another feature, such as '
            'pooled, or other weights.'
        )
    check_part(predictor, PoolingNeck, 'PretrainedBackbone.predictor')
    check_sizes({'PretrainedBackbone.predictor': predictor.sizes(), 'PretrainedBackbone.encoder': encoder.sizes()})
    return predictor


def is_wrapped(encoder: Mapping[str, Any]) -> bool:
    """Whether a config is of an encoder of another library, whose files are that library's.

    Raises:
        InputError: It has no type, or there is none of that name.
    """
    kind = encoder.get('type')
    if isinstance(kind, str):
        kind = MODELS.get(kind)
    if not isinstance(kind, type):
        raise InputError(
            f'The encoder has type={encoder.get("type")!r}: use mmmim.ViT, mmmim.TimmEncoder, '
            'mmmim.MMPretrainEncoder, mmmim.HuggingFaceEncoder or mmmim.HierarchicalEncoder.'
        )
    return issubclass(kind, WrappedEncoder)
