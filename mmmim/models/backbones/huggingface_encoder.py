"""Vision Transformers of Hugging Face's transformers."""

import contextlib
import copy
import inspect
import logging
import re
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmmim.checkpoints import load_state_dict
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.options import Positive

from ..data_preprocessors.mim_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from ..layers import parameter_layer
from .wrapped import WrappedEncoder, is_meta, left_out_of, read_foreign_weights

#: What the classes of a model begin with in transformers, by ``model_type``: Vision Transformers whose hidden states
#: are CLS tokens, registers, and all patches in their order.
FAMILIES = {
    'beit': 'Beit',
    'data2vec-vision': 'Data2VecVision',
    'deit': 'DeiT',
    'dinov2': 'Dinov2',
    'dinov2_with_registers': 'Dinov2WithRegisters',
    'dinov3_vit': 'DINOv3ViT',
    'ijepa': 'IJepa',
    'vit': 'ViT',
    'vit_mae': 'ViTMAE',
    'vit_msn': 'ViTMSN',
}
#: Parts of files that are no part of an encoder: classifiers, poolers, decoders and mask tokens of the pre-training.
_BESIDE = (
    r'(\w+\.)?((\w+_)?classifier|pooler|decoder|lm_head|decode_head|auxiliary_head)\.|(\w+\.)?embeddings\.mask_token$'
)
#: Biases of relative positions that blocks share, which layer decay counts among what comes after the blocks, as BEiT.
_SHARED_BIAS = ('shared_position_bias.', 'encoder.relative_position_bias.')
#: Fields of configs that say nothing of an encoder of whole images, or that it has its own value of.
_NOT_OF_THE_ENCODER = {'add_fpn', 'mask_ratio', 'stage_names'}


@MODELS.register_module()
class HuggingFaceEncoder(WrappedEncoder):
    """A Vision Transformer of Hugging Face's transformers, in the place of :class:`mmmim.ViT`.

    Needs ``pip install "mmmim[transformers]"``. Nothing is downloaded and no code of a repository is run: without
    ``weights`` the model is random. MAE's encoder sees all patches, in their order. Images of other sizes get the
    positions that transformers itself interpolates. The config of a folder, as ``save_pretrained`` writes it, is read
    by :func:`mmmim.models.backbones.huggingface_folder.read_folder`. All can be
    pre-trained with a mask token, and those without rotary or relative positions on visible patches, too.

    Args:
        name: The ``model_type`` of transformers, one of :data:`FAMILIES`.
        weights: Local file of this model, or of a model with a head that has it, in transformers' layout
            (``.safetensors``, ``.bin``), loaded strictly.
        mean: Mean of every channel, in the 0-255 range, RGB; None for ImageNet's.
        std: Standard deviation of every channel, in the 0-255 range, RGB; None for ImageNet's.
        fused: Whether a learned mask token stands in the place of every patch that is not visible, instead of leaving
            these out.
        init_cfg: Must stay None; weights come from ``weights``.
        **options: What ``config.json`` says of the architecture, e.g. ``hidden_size``; ``drop_path_rate``, of models
            that have it, is that of the last block, from 0 in equal steps.

    Raises:
        InputError: transformers is missing or has no such model, its patches are not square, or the weights do not fit.
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
        self.encoder = _build(name, options)
        encoder: Any = self.encoder
        config = encoder.config
        self.patch_size, self.embed_dim = config.patch_size, config.hidden_size
        self.depth, self.in_channels = config.num_hidden_layers, config.num_channels
        self.grid = (config.image_size // config.patch_size,) * 2
        tokens = {part: getattr(encoder.embeddings, f'{part}_token', None) for part in ('cls', 'distillation', 'mask')}
        tokens['register'] = getattr(encoder.embeddings, 'register_tokens', None)
        if (mask := tokens.pop('mask')) is not None:
            mask.requires_grad_(False)  # kept, since files of weights hold it
        numbers = {part: 0 if token is None else token.shape[1] for part, token in tokens.items()}
        self.num_cls_tokens, self.num_extra_tokens = numbers['cls'], sum(numbers.values())
        self.mean, self.std = list(mean or IMAGENET_MEAN), list(std or IMAGENET_STD)
        self._check_channels()
        lists = {name: part for name, part in encoder.named_modules() if isinstance(part, nn.ModuleList)}
        self._blocks = next(name for name in lists if name.rpartition('.')[2] in ('layer', 'layers'))
        self._norm = 'layernorm' if hasattr(encoder, 'layernorm') else 'norm'
        for index, block in enumerate(self.blocks):
            if rate := getattr(config, 'drop_path_rate', 0.0):
                block.drop_path.drop_prob = rate * index / max(self.depth - 1, 1)
        if hasattr(encoder, 'rope_embeddings'):
            self.needs_all = 'its positions are rotary, of all patches'
        elif any('relative_position' in key for key in encoder.state_dict()):
            self.needs_all = 'its positions are relative, of all patches'
        self._add_mask_token(fused)
        self._takes = set(inspect.signature(encoder.forward).parameters)
        if weights is not None and not is_meta(self.encoder):
            self.load_weights(weights)

    @property
    def blocks(self) -> nn.ModuleList:
        """Blocks, first to last."""
        blocks: Any = self.encoder.get_submodule(self._blocks)
        return blocks

    @property
    def norm(self) -> nn.Module:
        """Norm after the last block; none in models that norm pooled tokens instead."""
        return self.encoder.get_submodule(self._norm)

    @property
    def attentions(self) -> list[Any]:
        """The self-attention of every block."""
        found = [getattr(block, 'attention', None) for block in self.blocks]
        return [getattr(module, 'attention', module) for module in found]

    @property
    def patch_embedding(self) -> nn.Module:
        """What makes tokens of patches, before positions."""
        embeddings: Any = self.encoder.embeddings
        return embeddings.patch_embeddings

    def load_weights(self, path: str | Path) -> None:
        """Load a file of transformers strictly; names of other versions become those of the installed one."""
        state = read_foreign_weights(path)
        encoder: Any = self.encoder
        converted, left_out = _converted(encoder, state, path)
        load_state_dict(encoder, converted, str(path))
        if left_out:
            print_log(left_out_of(path, left_out), logger='current')

    def states(self, images: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Outputs of ``blocks``, in ascending order, before the final norm: each ``[B, E + N, D]``.

        Those of all blocks are computed, because models differ in what they give a block beside the tokens.
        """
        inputs: dict[str, Any] = {'pixel_values': images}
        if 'interpolate_pos_encoding' in self._takes:
            inputs['interpolate_pos_encoding'] = True
        if 'noise' in self._takes:  # MAE orders patches by it, and shows all of them where it masks none
            patches = (images.shape[-2] // self.patch_size) * (images.shape[-1] // self.patch_size)
            inputs['noise'] = torch.arange(patches, device=images.device).expand(len(images), -1)
        return self._outputs(blocks, lambda: self.encoder(**inputs))

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        # DINOv3's frequencies stay as precise as they are when a model is cast down: rounded ones turn wrongly.
        rope: Any = getattr(self.encoder, 'rope_embeddings', None)
        before = None if rope is None else rope.inv_freq
        super()._apply(fn, recurse)
        if before is not None and torch.finfo(rope.inv_freq.dtype).bits < torch.finfo(before.dtype).bits:
            rope.inv_freq = before.to(rope.inv_freq.device)
        return self

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter and their number, see :meth:`mmmim.models.Encoder.get_layer_depth`."""
        ours = f'{prefix}encoder.'
        name = param_name.removeprefix(ours)
        if param_name.startswith(ours):
            theirs = {f'{self._blocks}.': 'blocks.', f'{self._norm}.': 'norm.', **dict.fromkeys(_SHARED_BIAS, 'norm.')}
            found = next((each for each in theirs if name.startswith(each)), None)
            param_name = ours + (name if found is None else theirs[found] + name.removeprefix(found))
        return parameter_layer(param_name, ours, self.depth), self.depth + 2


def classes(name: str) -> tuple[Any, Any]:
    """The classes of a model and of its config in transformers.

    Args:
        name: The ``model_type`` of the model, one of :data:`FAMILIES`.

    Raises:
        InputError: transformers is missing, has no such model, or its hidden states are not those of patches.
    """
    if find_spec('transformers') is None:
        raise InputError('mmmim.HuggingFaceEncoder needs the library transformers: pip install "mmmim[transformers]"')
    import transformers

    if name not in FAMILIES:
        raise InputError(
            f'mmmim.HuggingFaceEncoder takes no model of the type {str(name)[:100]!r}, only plain Vision Transformers: '
            f'{", ".join(FAMILIES)}.'
        )
    found = [getattr(transformers, FAMILIES[name] + part, None) for part in ('Model', 'Config')]
    if None in found:
        raise InputError(
            f'transformers {transformers.__version__} has no model {name}: a later version has, pip install -U '
            'transformers'
        )
    return found[0], found[1]


def architecture_keys(name: str) -> set[str]:
    """What configs of a model say of its architecture, without what all configs of transformers have in common.

    Among the latter are ``auto_map`` and the implementation of attention, which name code of repositories.
    """
    from transformers import PreTrainedConfig

    own = set(vars(classes(name)[1]())) - set(vars(PreTrainedConfig()))
    return {key for key in own if not key.startswith('_')} - _NOT_OF_THE_ENCODER


def _build(name: str, options: dict[str, Any]) -> nn.Module:
    """The model without pooler, with random weights."""
    model, config_of = classes(name)
    known = architecture_keys(name)
    if unknown := sorted(set(options) - known):
        raise InputError(
            f'{name} of transformers has no {", ".join(unknown)}: leave it out. It has {", ".join(sorted(known))}.'
        )
    options = dict(options)
    for key in ('image_size', 'patch_size'):
        if isinstance(size := options.get(key), list | tuple):
            if len(set(size)) != 1:
                raise InputError(f'{name} has {key}={list(size)}: use a model of square images and patches.')
            options[key] = size[0]
    if name == 'vit_mae':
        options['mask_ratio'] = 0.0
    try:
        return model(config_of(**options), **_model_arguments(model))
    except Exception as error:  # configs are checked by transformers, with errors of many kinds
        reason = ' '.join(str(error).split())[:300]
        raise InputError(f'transformers cannot make {name} with {options}: {reason}') from error


def _model_arguments(model: Any) -> dict[str, Any]:
    """What keeps the pooler of classifiers out of a model, where it has one."""
    return {'add_pooling_layer': False} if 'add_pooling_layer' in inspect.signature(model).parameters else {}


def _converted(encoder: Any, state: dict[str, Tensor], path: str | Path) -> tuple[dict[str, Tensor], list[str]]:
    """Weights of a file under the names of a model, by transformers' own rules, and the names of what is left out.

    What the model has no place for stays, under its name in the file, and what has another shape keeps that, so that
    both are refused.
    """
    if wrong := [key for key, value in state.items() if not value.is_floating_point() and not key.endswith('_index')]:
        raise InputError(f'{path} holds wrong values: {wrong[0]} has integer numbers, the model has real ones.')
    with _quiet():
        loaded, info = type(encoder).from_pretrained(
            None,
            config=copy.deepcopy(encoder.config),
            state_dict=dict(state),
            dtype=torch.float32,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **_model_arguments(type(encoder)),
        )
    missing = set(info['missing_keys'])
    converted = {key: value for key, value in loaded.state_dict().items() if key not in missing}
    converted |= {key: torch.zeros(tuple(shape)) for key, shape, _ in info['mismatched_keys']}
    beside = [key for key in info['unexpected_keys'] if re.match(_BESIDE, key)]
    unexpected = set(info['unexpected_keys']) - set(beside)
    return converted | {key: state.get(key, torch.empty(0)) for key in unexpected}, sorted(beside)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' progress bar and report: what does not fit is refused or listed here."""
    from transformers.utils import logging as theirs

    logger, shown = logging.getLogger('transformers'), theirs.is_progress_bar_enabled()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    theirs.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if shown:
            theirs.enable_progress_bar()
