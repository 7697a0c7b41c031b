"""Measures of features, of segmentations, of objects in videos and of training."""
