"""Target generators: what the masked patches are compared with."""

from .online_clustering import OnlineClustering
from .pixels import PixelTarget

__all__ = ['OnlineClustering', 'PixelTarget']
