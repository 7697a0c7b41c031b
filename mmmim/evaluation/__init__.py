"""Measures of what a model learned."""

from .measures.losses import MeanLosses

__all__ = ['MeanLosses']
