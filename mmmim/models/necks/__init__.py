"""Necks: from the encoder's context to predictions of the masked patches."""

from .cross_attention_decoder import CrossAttentionDecoder
from .predictors import CrossAttentionPredictor, PickPredicted, SelfAttentionPredictor
from .proxy_reconstruction import ProxyReconstruction

__all__ = [
    'CrossAttentionDecoder',
    'CrossAttentionPredictor',
    'PickPredicted',
    'ProxyReconstruction',
    'SelfAttentionPredictor',
]
