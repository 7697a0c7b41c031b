"""Encoders."""

from .pretrained import PretrainedBackbone
from .rope_vit import RoPEViT

__all__ = ['PretrainedBackbone', 'RoPEViT']
