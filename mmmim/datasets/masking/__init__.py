"""Masking strategies, called once per batch by the collate function."""

from .blockwise import BEiTMasking
from .strategies import BlockMasking, InverseBlockMasking, MaskingStrategy, UniformMasking

__all__ = ['BEiTMasking', 'BlockMasking', 'InverseBlockMasking', 'MaskingStrategy', 'UniformMasking']
