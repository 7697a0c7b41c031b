"""Necks: from the encoder's context to predictions of the masked patches."""

from .cross_attention_predictor import CrossAttentionPredictor

__all__ = ['CrossAttentionPredictor']
