"""Data preprocessors: batches to the device, normalised."""

from .image_lists import ImageListPreprocessor
from .mim_data_preprocessor import MIMDataPreprocessor, swap_red_and_blue

__all__ = ['ImageListPreprocessor', 'MIMDataPreprocessor', 'swap_red_and_blue']
