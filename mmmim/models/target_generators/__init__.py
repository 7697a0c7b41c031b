"""Target generators: what the masked patches are compared with."""

from .hog import HOGTarget
from .latents import LatentTarget
from .online_clustering import OnlineClustering
from .pixels import PixelTarget
from .projected import ProjectedLatents
from .teacher_assignments import TeacherAssignments
from .tokens import TokenizerTarget

__all__ = [
    'HOGTarget',
    'LatentTarget',
    'OnlineClustering',
    'PixelTarget',
    'ProjectedLatents',
    'TeacherAssignments',
    'TokenizerTarget',
]
