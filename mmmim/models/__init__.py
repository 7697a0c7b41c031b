"""Models; importing this package registers them."""

from .algorithms import Branch, MaskedImageModeling
from .backbones import MMPretrainEncoder, TimmEncoder, ViT
from .data_preprocessors import MIMDataPreprocessor
from .heads import (
    CombinedHead,
    CrossEntropyHead,
    PatchDiscriminationHead,
    PrototypeHead,
    RegressionHead,
    SimilarityConstraint,
)
from .necks import (
    CrossAttentionDecoder,
    CrossAttentionPredictor,
    FeatureBatchNorm,
    PickPredicted,
    ProxyReconstruction,
    SelfAttentionPredictor,
)
from .target_generators import (
    HOGTarget,
    LatentTarget,
    OnlineClustering,
    PixelTarget,
    TeacherAssignments,
    TokenizerTarget,
)
from .teacher import EMACopy
from .tokenizers import DalleTokenizer, KMeansTokenizer, VQKDTokenizer

__all__ = [
    'Branch',
    'CombinedHead',
    'CrossAttentionDecoder',
    'CrossAttentionPredictor',
    'CrossEntropyHead',
    'DalleTokenizer',
    'EMACopy',
    'FeatureBatchNorm',
    'HOGTarget',
    'KMeansTokenizer',
    'LatentTarget',
    'MIMDataPreprocessor',
    'MMPretrainEncoder',
    'MaskedImageModeling',
    'OnlineClustering',
    'PatchDiscriminationHead',
    'PickPredicted',
    'PixelTarget',
    'PrototypeHead',
    'ProxyReconstruction',
    'RegressionHead',
    'SelfAttentionPredictor',
    'SimilarityConstraint',
    'TeacherAssignments',
    'TimmEncoder',
    'TokenizerTarget',
    'VQKDTokenizer',
    'ViT',
]
