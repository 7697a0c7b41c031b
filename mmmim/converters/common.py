"""What converters share."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.checkpoint import check_state_dict


def flat_tensors(table: Mapping[str, Any], source: str) -> dict[str, Tensor]:
    """A flat table of tensors, as a dict.

    Raises:
        InputError: It is empty, or holds something else.
    """
    others = [key for key, value in table.items() if not isinstance(value, Tensor)]
    if not table or others:
        raise InputError(f'{source} holds no flat table of tensors (not tensors: {", ".join(others[:5])}).')
    return dict(table)


def count_blocks(weights: Mapping[str, Tensor], root: str) -> int:
    """Number of blocks ``{root}.blocks.{i}``, from the largest index."""
    pattern = re.compile(re.escape(root) + r'\.blocks\.(\d+)\.')
    return max((int(match[1]) for match in map(pattern.match, weights) if match), default=-1) + 1


def checked_checkpoint(
    weights: dict[str, Tensor], config: dict[str, Any], parts: dict[str, dict], which: str, source: str
) -> dict[str, Any]:
    """A checkpoint for :class:`mmmim.FeatureExtractor` and :class:`mmmim.PretrainedBackbone`.

    Args:
        weights: Under mmmim's names.
        config: Of the model.
        parts: Configs, out of ``config``, of the parts that must fit strictly, by the name of the part.
        which: Which weights they are, 'ema' or 'student'.
        source: Name of the converted file, for error messages.

    Raises:
        InputError: Weights of a part are missing, unexpected or of another shape.
    """
    for name, cfg in parts.items():
        with torch.device('meta'):
            module = MODELS.build(cfg)
        prefix = f'{name}.'
        part = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
        check_state_dict(module, part, f'{source} ({prefix}*)')
    return {'state_dict': weights, 'meta': {}, 'mmmim': {'version': 1, 'model': config, 'weights': which}}
