"""Models; importing this package registers them."""

from .algorithms import Branch, EMACopy, MaskedImageModeling
from .backbones import PretrainedBackbone, ViT
from .data_preprocessors import MIMDataPreprocessor
from .heads import (
    CombinedHead,
    PatchDiscriminationHead,
    PrototypeHead,
    RegressionHead,
    SimilarityConstraint,
)
from .necks import CrossAttentionDecoder, CrossAttentionPredictor, PickPredicted, SelfAttentionPredictor
from .target_generators import LatentTarget, OnlineClustering, PixelTarget, TeacherAssignments

__all__ = [
    'Branch',
    'CombinedHead',
    'CrossAttentionDecoder',
    'CrossAttentionPredictor',
    'EMACopy',
    'LatentTarget',
    'MIMDataPreprocessor',
    'MaskedImageModeling',
    'OnlineClustering',
    'PatchDiscriminationHead',
    'PickPredicted',
    'PixelTarget',
    'PretrainedBackbone',
    'PrototypeHead',
    'RegressionHead',
    'SelfAttentionPredictor',
    'SimilarityConstraint',
    'TeacherAssignments',
    'ViT',
]
