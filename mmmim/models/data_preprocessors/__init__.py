"""Data preprocessors: batches to the device, normalised."""

from .mim_data_preprocessor import MIMDataPreprocessor

__all__ = ['MIMDataPreprocessor']
