"""Models; importing this package registers them."""

from .algorithms import Branch, MaskedImageModeling
from .backbones import HierarchicalEncoder, HuggingFaceEncoder, MMPretrainEncoder, TimmEncoder, ViT
from .data_preprocessors import MIMDataPreprocessor
from .heads import (
    CombinedHead,
    CrossEntropyHead,
    PatchDiscriminationHead,
    PrototypeHead,
    RegressionHead,
    SimilarityConstraint,
)
from .interfaces import Encoder, Head, Neck, PoolingNeck, TargetGenerator, Tokenizer
from .necks import (
    BatchNormProjector,
    ConvolutionalDecoder,
    CrossAttentionDecoder,
    CrossAttentionPredictor,
    FeatureBatchNorm,
    InterBlockDecoder,
    MultiLevelFusion,
    PatchAggregation,
    PickPredicted,
    PromptingDecoder,
    ProxyReconstruction,
    SelfAttentionPredictor,
)
from .target_generators import (
    HOGTarget,
    LatentTarget,
    OnlineClustering,
    PixelTarget,
    ProjectedLatents,
    TeacherAssignments,
    TokenizerTarget,
)
from .teacher import EMACopy, TeacherView
from .tokenizers import DalleTokenizer, KMeansTokenizer, VQKDTokenizer

__all__ = [
    'BatchNormProjector',
    'Branch',
    'CombinedHead',
    'ConvolutionalDecoder',
    'CrossAttentionDecoder',
    'CrossAttentionPredictor',
    'CrossEntropyHead',
    'DalleTokenizer',
    'EMACopy',
    'Encoder',
    'FeatureBatchNorm',
    'HOGTarget',
    'Head',
    'HierarchicalEncoder',
    'HuggingFaceEncoder',
    'InterBlockDecoder',
    'KMeansTokenizer',
    'LatentTarget',
    'MIMDataPreprocessor',
    'MMPretrainEncoder',
    'MaskedImageModeling',
    'MultiLevelFusion',
    'Neck',
    'OnlineClustering',
    'PatchAggregation',
    'PatchDiscriminationHead',
    'PickPredicted',
    'PixelTarget',
    'PoolingNeck',
    'ProjectedLatents',
    'PromptingDecoder',
    'PrototypeHead',
    'ProxyReconstruction',
    'RegressionHead',
    'SelfAttentionPredictor',
    'SimilarityConstraint',
    'TargetGenerator',
    'TeacherAssignments',
    'TeacherView',
    'TimmEncoder',
    'Tokenizer',
    'TokenizerTarget',
    'VQKDTokenizer',
    'ViT',
]
