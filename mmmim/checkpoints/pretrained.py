"""Models that files of weights carry: configs as plain data, and one set of weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmmim.utils import InputError
from mmmim.utils.nested import dicts, under

from .layouts import describe_layout
from .mapped import MappedFile, map_checkpoint_file
from .state_dict import weights_of
from .stored_config import check_stored_model

TEACHER = 'teacher.'
#: What a string of a config starts with that stands for a fact of an encoder.
PLACEHOLDER = 'pretrained:'
#: In the place of a checkpoint: random weights, asked for; weights that come with those of the whole model.
RANDOM, LATER = 'random', 'load_from'


def select_weights(state_dict: dict[str, Tensor], weights: str, exported: str | None = None) -> dict[str, Tensor]:
    """The student's or the EMA teacher's weights, under the same names.

    Args:
        state_dict: Weights of a :class:`MaskedImageModeling`, by name.
        weights: 'ema', 'student', or 'auto': the teacher's where there are any.
        exported: Set of weights that a file without prefixes holds, 'ema' or 'student'; None for 'student'.

    Returns:
        ``backbone.*``, ``branches.*``.

    Raises:
        InputError: The file does not hold these weights.
    """
    if weights not in ('auto', 'ema', 'student'):
        raise InputError(f"weights must be 'auto', 'ema' or 'student', got {weights!r}.")
    teacher = under(state_dict, TEACHER)
    student = {k: v for k, v in state_dict.items() if not k.startswith(TEACHER)}
    if teacher:
        return student if weights == 'student' else teacher
    only = exported or 'student'
    if weights not in ('auto', only):
        raise InputError(f'The checkpoint holds {only} weights only: use weights={only!r}.')
    return student


def load_pretrained(
    path: str | Path, weights: str = 'auto', trust: bool | None = None, part: str = ''
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a training checkpoint or a converted file, and of its tensors only those that are asked for.

    Args:
        path: Local file of the checkpoint.
        weights: 'ema', 'student', or 'auto': the EMA teacher's where there are any.
        trust: Whether to read pickled Python objects too, which can run any code; None for what
            :func:`mmmim.checkpoints.reader.trusting` says, by default no. What the file says of its model passes the
            gate of :mod:`mmmim.checkpoints.stored_config` all the same.
        part: What the names of the weights begin with that are wanted, such as ``backbone.``.

    Returns:
        The model's config, and its weights (``backbone.*``, ``branches.*``), in memory that is read when it is used:
        copy them, as loading into a module does.

    Raises:
        InputError: The file is missing, damaged, hostile or of another program, or lacks these weights.
    """
    return read_pretrained(map_checkpoint_file(path, trust), path, weights, part)


def read_pretrained(
    file: MappedFile, path: str | Path, weights: str = 'auto', part: str = ''
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """:func:`load_pretrained` of a file that has been mapped; ``path`` is what messages call it."""
    checkpoint = file.content()
    info = checkpoint.get('mmmim')
    if not isinstance(info, dict) or 'model' not in info or 'state_dict' not in checkpoint:
        raise InputError(
            f"{path} carries no mmmim model: use a checkpoint of mmmim's training, or convert the authors' weights "
            f'with tools/model_converters first. {describe_layout(checkpoint)} For downstream tasks, files of other '
            'libraries need the name of their model too: timm:NAME=FILE, mmpretrain:NAME=FILE or huggingface:FOLDER.'
        )
    check_stored_model(info['model'], path, features_only=True)
    if backbones(info['model']):
        raise InputError(
            f'{path} is the checkpoint of a model trained on a pre-trained encoder: give it to tools/test.py as '
            'CHECKPOINT, without --pretrained. Features need the checkpoint of the pre-training.'
        )
    state = select_weights(dict(weights_of(checkpoint, str(path))), weights, info.get('weights'))
    state = {name: value for name, value in state.items() if name.startswith(part)}
    file.use(state.values())
    return copy.deepcopy(info['model']), state


def kind_of_weights(file: MappedFile, weights: str = 'auto') -> str:
    """Which set of weights :func:`read_pretrained` takes of a file: 'ema' or 'student'."""
    if weights != 'auto':
        return weights
    content = file.content()
    if any(key.startswith(TEACHER) for key in content['state_dict']):
        return 'ema'
    return str(content['mmmim'].get('weights') or 'student')


def trained_model(path: str | Path) -> tuple[dict[str, Any], Mapping[str, Tensor]]:
    """The model of a checkpoint that a downstream task was trained to: its config, and its weights, to be copied.

    Raises:
        InputError: The file is missing or damaged, or one of pre-training, or does not say which model it is of, or
            what it says does not pass the gate of :mod:`mmmim.checkpoints.stored_config`.
    """
    file = map_checkpoint_file(path)
    checkpoint = file.content()
    info = checkpoint.get('mmmim')
    model = info.get('model') if isinstance(info, dict) else None
    if not model:
        raise InputError(
            f'{path} does not say which encoder it has, which checkpoints of mmmim.Runner do: give the one that it '
            'was trained on with --pretrained.'
        )
    check_stored_model(model, path)
    if not backbones(model):
        raise InputError(
            f'{path} is a checkpoint of pre-training, without a trained head. Train one, tools/train.py CONFIG '
            f'--pretrained {path}, and give the checkpoint of that training.'
        )
    weights = weights_of(checkpoint, str(path))
    file.use(weights.values())
    return copy.deepcopy(model), weights


def backbones(node: Any) -> list[dict[str, Any]]:
    """The configs of :class:`mmmim.PretrainedBackbone` in nested dicts and lists."""
    return [each for each in dicts(node) if each.get('type') in ('mmmim.PretrainedBackbone', 'PretrainedBackbone')]
