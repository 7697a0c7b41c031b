"""The fifteen corruptions of ImageNet-C (Hendrycks and Dietterich 2019, arXiv 1903.12261), made on the fly.

The images of ImageNet-C itself are files that were made once; these are corruptions of the same kinds, and scores on
them are not those of ImageNet-C.
"""

from .kinds import CORRUPTIONS, FAMILIES, NAMES, SEVERITIES, corrupt
from .transform import Corrupt

__all__ = ['CORRUPTIONS', 'FAMILIES', 'NAMES', 'SEVERITIES', 'Corrupt', 'corrupt']
