"""Transforms of single images."""

from .crop import RandomResizedCrop
from .jpeg import decode_jpeg
from .loading import LoadImage, UnreadableImageError, decode_image, read_image

__all__ = ['LoadImage', 'RandomResizedCrop', 'UnreadableImageError', 'decode_image', 'decode_jpeg', 'read_image']
