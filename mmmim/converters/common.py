"""What converters share."""

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmmim.checkpoints import check_state_dict
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.nested import under


def flat_tensors(table: Any, source: str) -> dict[str, Tensor]:
    """A flat table of tensors, as a dict.

    Raises:
        InputError: It is empty, or holds something else.
    """
    if not isinstance(table, Mapping):
        raise InputError(f'{source} holds no flat table of tensors, but a {type(table).__name__}.')
    others = [str(key) for key, value in table.items() if not (isinstance(key, str) and isinstance(value, Tensor))]
    if not table or others:
        raise InputError(f'{source} holds no flat table of tensors (not tensors: {", ".join(others[:5])}).')
    return dict(table)


def count_blocks(weights: Mapping[str, Tensor], root: str) -> int:
    """Number of blocks ``{root}.blocks.{i}``, from the largest index."""
    pattern = re.compile(re.escape(root) + r'\.blocks\.(\d+)\.')
    return max((int(match[1]) for match in map(pattern.match, weights) if match), default=-1) + 1


def mlp_ratio(weights: Mapping[str, Tensor], root: str, dim: int) -> float:
    """Hidden width over width ``dim`` of the MLPs of ``{root}.blocks``; 4 where there are none."""
    fc1 = weights.get(f'{root}.blocks.0.mlp.fc1.weight')
    return 4.0 if fc1 is None else fc1.shape[0] / dim


def square_side(positions: Tensor, source: str) -> int:
    """Patches per side of the square image that positions ``[N, D]`` are of.

    Raises:
        InputError: They form no square.
    """
    side = math.isqrt(len(positions))
    if side**2 != len(positions):
        raise InputError(f'{source} has positions of {len(positions)} patches, which are no square image.')
    return side


#: Of widths whose heads are not 64 wide: ViT-H and ViT-g.
_NUM_HEADS = {1280: 16, 1408: 16}


def head_count(dim: int, given: int | None, option: str, source: str) -> int:
    """Attention heads of a width, which the shapes of weights do not tell.

    Args:
        dim: The width.
        given: What the user says; None for heads of 64 channels (ViT-H: 80, ViT-g: 88).
        option: How the user says it, for error messages.
        source: Name of the converted file, for error messages.

    Raises:
        InputError: They do not divide the width.
    """
    if given is None:
        if dim % 64:
            raise InputError(f'{source}: the width {dim} does not tell how many attention heads: give {option}.')
        return _NUM_HEADS.get(dim, dim // 64)
    if given < 1 or dim % given:
        raise InputError(f'{given} attention heads do not divide the width {dim}: give {option}.')
    return given


def checked_checkpoint(
    weights: dict[str, Tensor], config: dict[str, Any], parts: dict[str, dict], which: str | None, source: str
) -> dict[str, Any]:
    """A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

    Args:
        weights: Under mmmim's names.
        config: Of the model.
        parts: Configs, out of ``config``, of the parts that must fit strictly, by the name of the part.
        which: Which weights they are, 'ema' or 'student'; None where they are both, the teacher's under ``teacher.``.
        source: Name of the converted file, for error messages.

    Raises:
        InputError: Weights of a part are missing, unexpected or of another shape.
    """
    for name, cfg in parts.items():
        with torch.device('meta'):
            module = MODELS.build(cfg)
        prefix = f'{name}.'
        part = under(weights, prefix)
        check_state_dict(module, part, f'{source} ({prefix}*)', same_grid=True)
    return {'state_dict': weights, 'meta': {}, 'mmmim': {'version': 1, 'model': config, 'weights': which}}
