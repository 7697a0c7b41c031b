"""Necks: from the encoder's context to predictions of the masked patches."""

from .cross_attention_predictor import CrossAttentionPredictor
from .self_attention_decoder import SelfAttentionDecoder

__all__ = ['CrossAttentionPredictor', 'SelfAttentionDecoder']
