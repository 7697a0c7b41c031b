"""Helpers that belong to no component."""

from .errors import InputError

__all__ = ['InputError', 'register_all_modules']


def register_all_modules(init_default_scope: bool = True) -> None:
    """Where other OpenMMLab packages have it; see :func:`mmmim.registry.register_all_modules`."""
    from mmmim.registry import register_all_modules as register

    register(init_default_scope)
