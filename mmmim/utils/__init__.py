"""Helpers that belong to no component, and import nothing of mmmim."""

from .errors import InputError

__all__ = ['InputError']
