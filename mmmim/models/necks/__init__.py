"""Necks: from the encoder's context to predictions of the masked patches."""

from .cross_attention_decoder import CrossAttentionDecoder
from .predictors import CrossAttentionPredictor, PickPredicted, SelfAttentionPredictor

__all__ = ['CrossAttentionDecoder', 'CrossAttentionPredictor', 'PickPredicted', 'SelfAttentionPredictor']
