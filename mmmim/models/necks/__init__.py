"""Necks: from the encoder's context to predictions of the masked patches."""

from .convolutional_decoder import ConvolutionalDecoder
from .cross_attention_decoder import CrossAttentionDecoder
from .feature_norm import FeatureBatchNorm, FeatureLayerNorm
from .inter_block import InterBlockDecoder, MultiLevelFusion
from .patch_aggregation import PatchAggregation
from .predictors import CrossAttentionPredictor, PickPredicted, SelfAttentionPredictor
from .projector import BatchNormProjector
from .prompting_decoder import PromptingDecoder
from .proxy_reconstruction import ProxyReconstruction

__all__ = [
    'BatchNormProjector',
    'ConvolutionalDecoder',
    'CrossAttentionDecoder',
    'CrossAttentionPredictor',
    'FeatureBatchNorm',
    'FeatureLayerNorm',
    'InterBlockDecoder',
    'MultiLevelFusion',
    'PatchAggregation',
    'PickPredicted',
    'PromptingDecoder',
    'ProxyReconstruction',
    'SelfAttentionPredictor',
]
