"""Encoders, of mmmim and of other libraries."""

from .hierarchical import HierarchicalEncoder
from .huggingface_encoder import HuggingFaceEncoder
from .mmpretrain_encoder import MMPretrainEncoder
from .timm_encoder import TimmEncoder
from .vit import ViT

__all__ = ['HierarchicalEncoder', 'HuggingFaceEncoder', 'MMPretrainEncoder', 'TimmEncoder', 'ViT']
