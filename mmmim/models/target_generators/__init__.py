"""Target generators: what the masked patches are compared with."""

from .online_clustering import OnlineClustering
from .pixels import PixelTarget
from .teacher import TeacherAssignments, TeacherFeatures

__all__ = ['OnlineClustering', 'PixelTarget', 'TeacherAssignments', 'TeacherFeatures']
