"""A frozen encoder in every form; importing this package registers its models."""

from .extraction import Features, LayerFeatures, extract_features
from .extractor import FeatureExtractor
from .frozen import FrozenFeatures
from .frozen_patches import FrozenPatches
from .frozen_target import FrozenTarget
from .pretrained_backbone import PretrainedBackbone

__all__ = [
    'FeatureExtractor',
    'Features',
    'FrozenFeatures',
    'FrozenPatches',
    'FrozenTarget',
    'LayerFeatures',
    'PretrainedBackbone',
    'extract_features',
]
