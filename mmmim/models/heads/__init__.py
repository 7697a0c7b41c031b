"""Heads: losses of predictions against targets."""

from .combined_head import CombinedHead
from .patch_discrimination_head import PatchDiscriminationHead, SimilarityConstraint
from .prototype_head import PrototypeHead
from .regression_head import RegressionHead

__all__ = ['CombinedHead', 'PatchDiscriminationHead', 'PrototypeHead', 'RegressionHead', 'SimilarityConstraint']
