"""Encoders, of mmmim and of other libraries."""

from .mmpretrain_encoder import MMPretrainEncoder
from .timm_encoder import TimmEncoder
from .vit import ViT

__all__ = ['MMPretrainEncoder', 'TimmEncoder', 'ViT']
