"""Masking strategies, called once per batch by the collate function."""

from .strategies import BlockMasking, InverseBlockMasking, MaskingStrategy, UniformMasking

__all__ = ['BlockMasking', 'InverseBlockMasking', 'MaskingStrategy', 'UniformMasking']
