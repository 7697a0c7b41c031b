"""Heads: losses of predictions against targets."""

from .prototype_head import PrototypeHead

__all__ = ['PrototypeHead']
