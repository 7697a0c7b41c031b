"""Data preprocessors: batches to the device, normalised."""

from .mim_data_preprocessor import MIMDataPreprocessor, swap_red_and_blue

__all__ = ['MIMDataPreprocessor', 'swap_red_and_blue']
