"""Data sets, samplers, collate functions and masking strategies."""

from .clevr import CLEVR
from .collate import mask_collate
from .fashion_scenes import FashionScenes
from .huggingface_stream import HuggingFaceStream
from .image_folder import ImageFolder
from .image_stream import ImageStream
from .masking import (
    BEiTMasking,
    BlockMasking,
    InverseBlockMasking,
    MaskingStrategy,
    MultiBlockMasking,
    UniformMasking,
)
from .samplers import PositionIndex, PositionSampler
from .seeded import SeededDataset
from .synthetic import SyntheticImages
from .transforms import (
    ForgetOriginalSize,
    LoadImage,
    LoadLabelMap,
    MAERandomResizedCrop,
    RandomResizedCrop,
    ResizeLabelMap,
)
from .webdataset_stream import WebDatasetStream

__all__ = [
    'CLEVR',
    'BEiTMasking',
    'BlockMasking',
    'FashionScenes',
    'ForgetOriginalSize',
    'HuggingFaceStream',
    'ImageFolder',
    'ImageStream',
    'InverseBlockMasking',
    'LoadImage',
    'LoadLabelMap',
    'MAERandomResizedCrop',
    'MaskingStrategy',
    'MultiBlockMasking',
    'PositionIndex',
    'PositionSampler',
    'RandomResizedCrop',
    'ResizeLabelMap',
    'SeededDataset',
    'SyntheticImages',
    'UniformMasking',
    'WebDatasetStream',
    'mask_collate',
]
