"""Algorithms."""

from .ema_copy import EMACopy
from .masked_image_modeling import Branch, MaskedImageModeling, train_step

__all__ = ['Branch', 'EMACopy', 'MaskedImageModeling', 'train_step']
