"""Transforms of single images."""

from .loading import LoadImage, UnreadableImageError, read_image

__all__ = ['LoadImage', 'UnreadableImageError', 'read_image']
