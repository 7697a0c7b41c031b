"""Tokenizers: from pictures to one token, of a fixed number of them, per patch.

A tokenizer is a module with an attribute ``num_tokens`` (K) that is called as ``tokenizer(pixels, grid)`` with RGB
``[B, 3, H, W]`` in [0, 1] and gives ``[B, N]``, int64 in ``[0, K)``, row-major over the grid. One for images of other
channels says how many in an attribute ``in_channels``.
"""

from .kmeans import KMeansTokenizer, fit_codebook, standardised_patches
from .pretrained import DalleTokenizer, VQKDTokenizer

__all__ = ['DalleTokenizer', 'KMeansTokenizer', 'VQKDTokenizer', 'fit_codebook', 'standardised_patches']
