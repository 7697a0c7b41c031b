"""Masking strategies, called once per batch by the collate function."""

from .blockwise import BEiTMasking
from .inverse_blocks import InverseBlocksMasking
from .multi_block import MultiBlockMasking
from .predict_all import PredictAll
from .strategies import BlockMasking, InverseBlockMasking, MaskingStrategy, UniformMasking

__all__ = [
    'BEiTMasking',
    'BlockMasking',
    'InverseBlockMasking',
    'InverseBlocksMasking',
    'MaskingStrategy',
    'MultiBlockMasking',
    'PredictAll',
    'UniformMasking',
]
