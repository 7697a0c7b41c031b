"""Pure functions on tensors."""

from .cross_entropy import soft_cross_entropy
from .hog import hog
from .low_pass import low_pass
from .nearest import nearest
from .online_clustering import Balancing, assign_tokens, online_clustering
from .patch_discrimination import mean_similarity, patch_discrimination
from .sinkhorn import sinkhorn_knopp_

__all__ = [
    'Balancing',
    'assign_tokens',
    'hog',
    'low_pass',
    'mean_similarity',
    'nearest',
    'online_clustering',
    'patch_discrimination',
    'sinkhorn_knopp_',
    'soft_cross_entropy',
]
