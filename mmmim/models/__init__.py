"""Models; importing this package registers them."""

from .algorithms import Branch, EMACopy, MaskedImageModeling
from .backbones import PretrainedBackbone, ViT
from .data_preprocessors import MIMDataPreprocessor
from .heads import PrototypeHead, RegressionHead
from .necks import CrossAttentionPredictor, PickPredicted, SelfAttentionPredictor
from .target_generators import OnlineClustering, PixelTarget, TeacherAssignments, TeacherFeatures

__all__ = [
    'Branch',
    'CrossAttentionPredictor',
    'EMACopy',
    'MIMDataPreprocessor',
    'MaskedImageModeling',
    'OnlineClustering',
    'PickPredicted',
    'PixelTarget',
    'PretrainedBackbone',
    'PrototypeHead',
    'RegressionHead',
    'SelfAttentionPredictor',
    'TeacherAssignments',
    'TeacherFeatures',
    'ViT',
]
