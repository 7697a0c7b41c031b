"""Encoders out of files of any kind, as a :class:`mmmim.ViT`: what a pre-training may start from.

A file runs no code: every kind goes through :func:`mmmim.checkpoints.load_checkpoint_file`, and what it says of a model
through :func:`mmmim.checkpoints.stored_config.check_stored_model`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mmmim.checkpoints import load_checkpoint_file
from mmmim.checkpoints.layouts import describe_layout
from mmmim.checkpoints.mapped import map_checkpoint_file
from mmmim.checkpoints.pretrained import kind_of_weights
from mmmim.config.weights import published
from mmmim.converters.common import inner_table
from mmmim.converters.published import find_weights
from mmmim.converters.registry import CONVERTERS
from mmmim.converters.vit_layouts import DINOV2, HUGGING_FACE, TIMM, find_vit_layout
from mmmim.features.stored_encoder import StoredEncoder
from mmmim.models.backbones import TimmEncoder, ViT
from mmmim.models.stored import build_sizes
from mmmim.utils import InputError
from mmmim.utils.nested import under

_WEIGHTS = 'model.safetensors'


@dataclass(frozen=True)
class EncoderFile:
    """An encoder out of a file.

    Attributes:
        what: What it is of, in words.
        sizes: The encoder without memory, on the meta device.
        state: Weights of the encoder, to be copied.
    """

    what: str
    sizes: ViT
    state: dict[str, Tensor]


def read_encoder(source: str, weights: str = 'auto') -> EncoderFile:
    """The encoder that a user names.

    Args:
        source: A name of published weights, a checkpoint of mmmim of any method, a converted or exported file, a file
            of the authors of a method (what ``mmmim convert`` takes), ``timm:NAME=FILE``, or a file or folder of
            Hugging Face or timm.
        weights: Set of weights of a checkpoint of mmmim: 'ema', 'student', or 'auto' (the teacher's if there are).

    Raises:
        InputError: There is no such file, it is damaged or hostile, or holds no encoder that :class:`mmmim.ViT` can be.
    """
    if published(source) is not None and not Path(source).exists():
        file, library = find_weights(source)
        if library is not None:
            raise InputError(
                f'{source} is a file of {library.partition(":")[0]}, in whose layout no pre-training can start: give '
                'one of mmmim, of the authors of a method, of timm or of Hugging Face.'
            )
        return _of_file(file, weights)
    if source.startswith('timm:'):
        found = _of_timm(source)
    elif Path(source).expanduser().is_dir():
        found = _of_folder(Path(source).expanduser())
    else:
        return _of_file(source, weights)
    _refuse_choice(source, weights)
    return found


def _of_file(source: str, weights: str) -> EncoderFile:
    file = map_checkpoint_file(source)
    if 'mmmim' in file.content():
        stored = StoredEncoder.of(source, weights)
        which = kind_of_weights(file, weights)
        return _checked(source, f'{which} weights of a checkpoint of mmmim', stored.model['backbone'], stored.state)
    _refuse_choice(source, weights)
    checkpoint = load_checkpoint_file(source)
    for converter in CONVERTERS.values():
        if converter.name != 'mae' and converter.detect(checkpoint):
            converted = converter.convert(checkpoint, source)
            state = dict(converted['state_dict'])
            state |= under(state, 'teacher.')  # as for checkpoints of mmmim
            config = converted['mmmim']['model']['backbone']
            return _checked(source, converter.what, config, under(state, 'backbone.'))
    table = inner_table(checkpoint)
    found = find_vit_layout(table) if all(isinstance(value, Tensor) for value in table.values()) else None
    if found is not None:
        layout, bare = found
        if layout is TIMM:  # so are the files of MAE's authors, whose decoder is not needed
            bare = {key: value for key, value in bare.items() if not key.startswith(('decoder_', 'mask_token'))}
        config, state = layout.read(bare, source)
        return _checked(source, f'a {layout.name}', config, state)
    if CONVERTERS['mae'].detect(checkpoint):
        converted = CONVERTERS['mae'].convert(checkpoint, source)
        config, state = converted['mmmim']['model']['backbone'], under(converted['state_dict'], 'backbone.')
        return _checked(source, CONVERTERS['mae'].what, config, state)
    raise InputError(
        f'{source} holds no encoder that a pre-training can start from: a checkpoint of mmmim, a file that mmmim '
        f'convert takes, or a plain Vision Transformer of timm or Hugging Face. {describe_layout(checkpoint)}'
    )


def _of_timm(source: str) -> EncoderFile:
    name, _, path = source.removeprefix('timm:').partition('=')
    if not name or not path:
        raise InputError(
            f'{source}: write timm:NAME=FILE, the name of a model of timm and a local file of its weights.'
        )
    return _timm_model(source, name, path, {})


def _timm_model(source: str, name: str, path: str, options: Mapping[str, Any]) -> EncoderFile:
    model: Any = TimmEncoder(name, weights=path, **options).encoder
    block = model.blocks[0]
    if not hasattr(block, 'attn') or type(block.mlp.act).__name__ not in ('GELU', 'Identity'):
        raise InputError(f'{source}: {name} is no plain Vision Transformer with GELU, which mmmim.ViT is.')
    heads, eps = block.attn.num_heads, block.norm1.eps
    config, state = TIMM.read(model.state_dict(), source, heads, eps)
    return _checked(source, f'{name} of timm', config, state)


def _of_folder(folder: Path) -> EncoderFile:
    """A folder as Hugging Face and timm write it: the config as JSON, and weights."""
    try:
        text = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    except OSError:
        raise InputError(f'{folder} is a folder without config.json: give a file of weights.') from None
    except (ValueError, RecursionError) as error:
        raise InputError(f'{folder / "config.json"} is no JSON: {error}') from None
    file = folder / _WEIGHTS
    if not file.is_file() and (folder / 'pytorch_model.bin').is_file():
        file = folder / 'pytorch_model.bin'
    checkpoint = load_checkpoint_file(file)
    if 'mmmim' in checkpoint:
        return _of_file(str(file), 'auto')
    if not isinstance(text, dict):
        raise InputError(f'{folder / "config.json"} describes no model.')
    if isinstance(architecture := text.get('architecture'), str):
        options = text.get('model_args') or {}
        strange = (
            [key for key, value in options.items() if not _is_plain(key, value)] if isinstance(options, dict) else []
        )
        if strange or not isinstance(options, dict):
            raise InputError(f'{folder / "config.json"}: model_args.{"".join(strange[:1])} is no size of a model.')
        # Sizes of a file cost nothing before they are compared with its weights.
        weights = {f'encoder.{key}': value for key, value in checkpoint.items() if not re.match(TIMM.ignored, key)}
        build_sizes({'type': 'mmmim.TimmEncoder', 'name': architecture, **options}, weights, str(folder))
        return _timm_model(str(folder), architecture, str(file), options)
    found = find_vit_layout(checkpoint)
    if found is None or found[0] not in (HUGGING_FACE, DINOV2):
        raise InputError(
            f'{folder} is of a {str(text.get("model_type"))[:40]}, which is no plain Vision Transformer of Hugging '
            f'Face (ViT, ViTMAE, I-JEPA, BEiT without relative positions, DINOv2). {describe_layout(checkpoint)}'
        )
    layout, bare = found
    heads, eps, act = (text.get(key) for key in ('num_attention_heads', 'layer_norm_eps', 'hidden_act'))
    if act not in (None, 'gelu'):
        raise InputError(f'{folder} has hidden_act={str(act)[:40]!r}, and mmmim.ViT GELU.')
    if not isinstance(heads, int) or not isinstance(eps, int | float) or not 0 < eps < 1:
        raise InputError(f'{folder / "config.json"} tells no num_attention_heads or layer_norm_eps.')
    config, state = layout.read(bare, str(folder), heads, float(eps))
    return _checked(str(folder), f'a {layout.name}', config, state)


def _is_plain(key: str, value: Any) -> bool:
    """Whether an argument of timm's models is a size or a switch: other texts name functions, files or classes."""
    if isinstance(value, list):
        return len(value) == 2 and all(isinstance(each, int) for each in value)
    return value is None or isinstance(value, int | float) or key == 'global_pool'


def _checked(source: str, what: str, config: Mapping[str, Any], state: dict[str, Tensor]) -> EncoderFile:
    sizes = build_sizes(config, state, source)
    if not isinstance(sizes, ViT):
        raise InputError(
            f'{source}: its encoder is a {config.get("type")}, and a pre-training starts from a mmmim.ViT.'
        )
    return EncoderFile(what, sizes, state)


def _refuse_choice(source: str, weights: str) -> None:
    if weights != 'auto':
        raise InputError(f'{source} holds one set of weights: leave --weights out.')
