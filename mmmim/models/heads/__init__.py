"""Heads: losses of predictions against targets."""

from .prototype_head import PrototypeHead
from .regression_head import RegressionHead

__all__ = ['PrototypeHead', 'RegressionHead']
