"""Algorithms."""

from .masked_image_modeling import Branch, MaskedImageModeling

__all__ = ['Branch', 'MaskedImageModeling']
