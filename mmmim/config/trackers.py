"""Trackers: programs beside mmmim that show the curves and pictures of many trainings.

mmengine writes to them (``visualizer.vis_backends`` of a config); a name here stands for one of its backends with
options that keep everything on this machine.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
from dataclasses import dataclass, field
from typing import Any

from mmmim.utils import InputError


@dataclass(frozen=True)
class Tracker:
    """What a tracker is in a config.

    Attributes:
        backend: Type of its backend in ``visualizer.vis_backends``.
        package: Name of the library that it needs, for pip and for Python.
        options: Arguments of the backend.
    """

    backend: str
    package: str
    options: dict[str, Any] = field(default_factory=dict)


TRACKERS = {
    'tensorboard': Tracker('mmengine.TensorboardVisBackend', 'tensorboard'),
    # Nothing is sent before `wandb sync`, unless the variable of wandb says otherwise.
    'wandb': Tracker(
        'mmengine.WandbVisBackend', 'wandb', {'init_kwargs': {'mode': os.environ.get('WANDB_MODE', 'offline')}}
    ),
    # MLflow 3 writes to no folder any more; mmengine would give it one.
    'mlflow': Tracker(
        'mmengine.MLflowVisBackend',
        'mlflow',
        {'tracking_uri': os.environ.get('MLFLOW_TRACKING_URI', 'sqlite:///mlflow.db')},
    ),
    'aim': Tracker('mmengine.AimVisBackend', 'aim'),
}


def add_tracker(cfg: Any, name: str) -> None:
    """Let a training be written to a tracker as well; one that the config has already stays as it is.

    Args:
        cfg: The config of a training, mmengine's ``Config``, which is changed.
        name: One of :data:`TRACKERS`.

    Raises:
        InputError: There is no tracker of this name, or its library is not installed.
    """
    if name not in TRACKERS:
        close = difflib.get_close_matches(name.lower(), TRACKERS, n=1)
        raise InputError(
            f'--tracker {name}: there is no such tracker; '
            + (f'did you mean {close[0]}?' if close else f'use one of {", ".join(TRACKERS)}.')
        )
    tracker = TRACKERS[name]
    if importlib.util.find_spec(tracker.package) is None:
        raise InputError(
            f'--tracker {name} needs a package that is not installed: pip install {tracker.package}, or leave it out.'
        )
    visualizer = cfg.get('visualizer') or {'type': 'mmengine.Visualizer'}
    backends = list(visualizer.get('vis_backends') or [{'type': 'mmengine.LocalVisBackend'}])
    bare = tracker.backend.rpartition('.')[2]
    if all(str(backend.get('type')).rpartition('.')[2] != bare for backend in backends):
        backends.append({'type': tracker.backend, **tracker.options})
    cfg.visualizer = {**visualizer, 'vis_backends': backends}
