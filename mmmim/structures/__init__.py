"""What the parts of a masked image model pass to each other."""

from .mim import Context, Prediction, Target
from .patch_mask import PatchMask, gather_patches

__all__ = ['Context', 'PatchMask', 'Prediction', 'Target', 'gather_patches']
