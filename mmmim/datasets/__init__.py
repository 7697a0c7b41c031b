"""Data sets, samplers, collate functions and masking strategies."""

from . import torchvision_first  # noqa: F401
from .boxes import BoxesOfLabelMap, COCOBoxes, VOCBoxes
from .classification import (
    CIFAR10,
    CIFAR100,
    DTD,
    SUN397,
    Caltech101,
    CoOpSplit,
    Flowers102,
    Food101,
    ImageNetTestSet,
    ObjectNet,
    OxfordIIITPet,
    Places205,
    Places365,
    StanfordCars,
)
from .clevr import CLEVR
from .collate import mask_collate
from .davis import DAVIS2017
from .fashion_scenes import FashionScenes
from .few_shot import few_shot_dataset
from .huggingface_stream import HuggingFaceStream
from .image_folder import ImageFolder
from .image_stream import ImageStream
from .masking import (
    BEiTMasking,
    BlockMasking,
    InverseBlockMasking,
    InverseBlocksMasking,
    MaskingStrategy,
    MultiBlockMasking,
    PredictAll,
    UniformMasking,
)
from .moving_fashion import MovingFashion
from .nyu import NYUv2
from .samplers import PositionIndex, PositionSampler
from .seeded import SeededDataset
from .split import split_dataset
from .synthetic import SyntheticImages
from .transforms import (
    ForgetOriginalSize,
    LoadDepth,
    LoadImage,
    LoadLabelMap,
    LoadNormals,
    LoadReducedCrop,
    MAERandomResizedCrop,
    RandomResizedCrop,
    ResizeLabelMap,
    SecondView,
)
from .webdataset_stream import WebDatasetStream

__all__ = [
    'CIFAR10',
    'CIFAR100',
    'CLEVR',
    'DAVIS2017',
    'DTD',
    'SUN397',
    'BEiTMasking',
    'BlockMasking',
    'BoxesOfLabelMap',
    'COCOBoxes',
    'Caltech101',
    'CoOpSplit',
    'FashionScenes',
    'Flowers102',
    'Food101',
    'ForgetOriginalSize',
    'HuggingFaceStream',
    'ImageFolder',
    'ImageNetTestSet',
    'ImageStream',
    'InverseBlockMasking',
    'InverseBlocksMasking',
    'LoadDepth',
    'LoadImage',
    'LoadLabelMap',
    'LoadNormals',
    'LoadReducedCrop',
    'MAERandomResizedCrop',
    'MaskingStrategy',
    'MovingFashion',
    'MultiBlockMasking',
    'NYUv2',
    'ObjectNet',
    'OxfordIIITPet',
    'Places205',
    'Places365',
    'PositionIndex',
    'PositionSampler',
    'PredictAll',
    'RandomResizedCrop',
    'ResizeLabelMap',
    'SecondView',
    'SeededDataset',
    'StanfordCars',
    'SyntheticImages',
    'UniformMasking',
    'VOCBoxes',
    'WebDatasetStream',
    'few_shot_dataset',
    'mask_collate',
    'split_dataset',
]
