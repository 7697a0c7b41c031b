"""Transforms of single images."""

from .crop import MAERandomResizedCrop, RandomResizedCrop
from .jpeg import decode_jpeg
from .label_maps import ForgetOriginalSize, LoadLabelMap, ResizeLabelMap
from .loading import LoadImage, UnreadableImageError, decode_image, read_file, read_image
from .maps import LoadDepth, LoadNormals
from .reduced_crop import LoadReducedCrop
from .second_view import SecondView

__all__ = [
    'ForgetOriginalSize',
    'LoadDepth',
    'LoadImage',
    'LoadLabelMap',
    'LoadNormals',
    'LoadReducedCrop',
    'MAERandomResizedCrop',
    'RandomResizedCrop',
    'ResizeLabelMap',
    'SecondView',
    'UnreadableImageError',
    'decode_image',
    'decode_jpeg',
    'read_file',
    'read_image',
]
