"""What downstream tasks take from a checkpoint: the model's config as plain data, and one set of weights."""

from pathlib import Path
from typing import Any

from torch import Tensor

from .checkpoint import load_checkpoint_file
from .errors import InputError

TEACHER = 'teacher.'


def select_weights(state_dict: dict[str, Tensor], weights: str, exported: str | None = None) -> dict[str, Tensor]:
    """The student's or the EMA teacher's weights, under the same names.

    Args:
        state_dict: Of a :class:`MaskedImageModeling`.
        weights: 'ema', 'student', or 'auto': the teacher's where there are any.
        exported: For files that hold one set only, without prefix: which one it is.

    Returns:
        ``backbone.*``, ``branches.*``.

    Raises:
        InputError: The file does not hold these weights.
    """
    if weights not in ('auto', 'ema', 'student'):
        raise InputError(f"weights must be 'auto', 'ema' or 'student', got {weights!r}.")
    teacher = {k.removeprefix(TEACHER): v for k, v in state_dict.items() if k.startswith(TEACHER)}
    student = {k: v for k, v in state_dict.items() if not k.startswith(TEACHER)}
    if teacher:
        return student if weights == 'student' else teacher
    only = exported or 'student'
    if weights not in ('auto', only):
        raise InputError(f'The checkpoint holds {only} weights only: use weights={only!r}.')
    return student


def load_pretrained(path: str | Path, weights: str = 'auto') -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a training checkpoint or a converted file.

    Args:
        path: Local file.
        weights: 'ema', 'student', or 'auto': the EMA teacher's where there are any.

    Returns:
        The model's config, and its weights (``backbone.*``, ``branches.*``).

    Raises:
        InputError: The file is missing, damaged or of another program, or lacks these weights.
    """
    checkpoint = load_checkpoint_file(path)
    info = checkpoint.get('mmmim')
    if not isinstance(info, dict) or 'model' not in info or 'state_dict' not in checkpoint:
        raise InputError(
            f"{path} carries no mmmim model: use a checkpoint of mmmim's training, or convert the authors' weights "
            'with tools/model_converters first.'
        )
    return info['model'], select_weights(checkpoint['state_dict'], weights, info.get('weights'))
