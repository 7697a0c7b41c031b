"""Target generators: what the masked patches are compared with."""

from .latents import LatentTarget
from .online_clustering import OnlineClustering
from .pixels import PixelTarget
from .teacher_assignments import TeacherAssignments

__all__ = ['LatentTarget', 'OnlineClustering', 'PixelTarget', 'TeacherAssignments']
