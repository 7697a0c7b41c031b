"""Algorithms."""

from .masked_image_modeling import Branch, MaskedImageModeling, train_step

__all__ = ['Branch', 'MaskedImageModeling', 'train_step']
