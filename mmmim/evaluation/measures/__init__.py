"""Measures of features, of segmentations and of training."""
