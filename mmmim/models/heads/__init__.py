"""Heads: losses of predictions against targets."""

from .combined_head import CombinedHead
from .cross_entropy_head import CrossEntropyHead
from .patch_discrimination_head import PatchDiscriminationHead, SimilarityConstraint
from .prototype_head import PrototypeHead
from .regression_head import RegressionHead

__all__ = [
    'CombinedHead',
    'CrossEntropyHead',
    'PatchDiscriminationHead',
    'PrototypeHead',
    'RegressionHead',
    'SimilarityConstraint',
]
