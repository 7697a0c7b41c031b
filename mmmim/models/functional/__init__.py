"""Pure functions on tensors."""

from .cross_entropy import soft_cross_entropy
from .online_clustering import Balancing, assign_tokens, online_clustering
from .sinkhorn import sinkhorn_knopp_

__all__ = ['Balancing', 'assign_tokens', 'online_clustering', 'sinkhorn_knopp_', 'soft_cross_entropy']
