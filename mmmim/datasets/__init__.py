"""Data sets, samplers, collate functions and masking strategies."""

from .collate import mask_collate
from .digit_scenes import DigitScenes
from .image_folder import ImageFolder
from .masking import BlockMasking, InverseBlockMasking, MaskingStrategy, UniformMasking
from .samplers import PositionIndex, PositionSampler
from .seeded import SeededDataset
from .synthetic import SyntheticImages
from .transforms import LoadImage

__all__ = [
    'BlockMasking',
    'DigitScenes',
    'ImageFolder',
    'InverseBlockMasking',
    'LoadImage',
    'MaskingStrategy',
    'PositionIndex',
    'PositionSampler',
    'SeededDataset',
    'SyntheticImages',
    'UniformMasking',
    'mask_collate',
]
