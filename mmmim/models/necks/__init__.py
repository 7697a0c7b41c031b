"""Necks: from the encoder's context to predictions of the masked patches."""

from .predictors import CrossAttentionPredictor, PickPredicted, SelfAttentionPredictor

__all__ = ['CrossAttentionPredictor', 'PickPredicted', 'SelfAttentionPredictor']
