"""Encoders."""

from .mmpretrain_encoder import MMPretrainEncoder
from .pretrained import PretrainedBackbone
from .timm_encoder import TimmEncoder
from .vit import ViT

__all__ = ['MMPretrainEncoder', 'PretrainedBackbone', 'TimmEncoder', 'ViT']
