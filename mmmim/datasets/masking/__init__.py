"""Masking strategies, called once per batch by the collate function."""

from .multi_block import MultiBlockMasking
from .strategies import BlockMasking, InverseBlockMasking, MaskingStrategy, UniformMasking

__all__ = ['BlockMasking', 'InverseBlockMasking', 'MaskingStrategy', 'MultiBlockMasking', 'UniformMasking']
