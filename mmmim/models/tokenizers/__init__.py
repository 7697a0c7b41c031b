"""Tokenizers: from pictures to one token, of a fixed number of them, per patch.

Their interface is :class:`mmmim.models.Tokenizer`.
"""

from .kmeans import KMeansTokenizer, fit_codebook, standardised_patches
from .pretrained import DalleTokenizer, VQKDTokenizer

__all__ = ['DalleTokenizer', 'KMeansTokenizer', 'VQKDTokenizer', 'fit_codebook', 'standardised_patches']
