"""Algorithms."""

from ..teacher import EMACopy, encode_in_pieces
from .masked_image_modeling import Branch, MaskedImageModeling, train_step

__all__ = ['Branch', 'EMACopy', 'MaskedImageModeling', 'encode_in_pieces', 'train_step']
