"""Measures of what a model learned."""

from .losses import MeanLosses

__all__ = ['MeanLosses']
