"""Encoders."""

from .pretrained import PretrainedBackbone
from .rope_vit import RoPEViT
from .vit import ViT

__all__ = ['PretrainedBackbone', 'RoPEViT', 'ViT']
