"""Helpers that belong to no component, and import nothing of mmmim."""

from importlib import import_module

from .errors import InputError

__all__ = ['InputError']


def register_all_modules(init_default_scope: bool = True) -> None:
    """:func:`mmmim.register_all_modules`, where ``mmengine.hub.get_model`` looks for it in every package.

    Args:
        init_default_scope: Whether types without a package are then those of mmmim.
    """
    import_module('mmmim.registry').register_all_modules(init_default_scope)
