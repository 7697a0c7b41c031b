"""mmmim: latent masked image modelling on the OpenMMLab stack.

Importing the package is cheap on purpose: models, data sets and hooks are imported when a registry first looks for
them, and the names below when they are first used.
"""

from importlib import import_module
from typing import Any

from .version import __version__

_LAZY = {
    'FeatureExtractor': 'mmmim.features',
    'get_model': 'mmmim.apis',
    'list_models': 'mmmim.apis',
    'PretrainedBackbone': 'mmmim.features',
    'register_all_modules': 'mmmim.registry',
}

__all__ = ['__version__', *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
