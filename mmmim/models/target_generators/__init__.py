"""Target generators: what the masked patches are compared with."""

from .online_clustering import OnlineClustering

__all__ = ['OnlineClustering']
