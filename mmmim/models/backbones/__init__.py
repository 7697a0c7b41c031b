"""Encoders."""

from .pretrained import PretrainedBackbone
from .vit import ViT

__all__ = ['PretrainedBackbone', 'ViT']
