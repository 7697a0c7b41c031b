"""Writing checkpoint files: plain data only, as a whole or not at all.

Files written here load with ``torch.load(weights_only=True)``. Reading is in :mod:`mmmim.checkpoints.reader`, what
loading compares in :mod:`mmmim.checkpoints.state_dict`, and what a model's config in a file may say in
:mod:`mmmim.checkpoints.stored_config`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from mmmim.utils.atomic import write_atomically


def save_checkpoint_file(
    obj: Any, path: str | os.PathLike, before_replace: Callable[[os.stat_result], Any] | None = None
) -> None:
    """Write a checkpoint; arguments and errors of :func:`mmmim.utils.atomic.write_atomically`."""
    write_atomically(path, lambda file: torch.save(obj, file), before_replace)
