"""Helpers that belong to no component."""

from .errors import InputError

__all__ = ['InputError']
