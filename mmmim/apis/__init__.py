"""Pre-trained models as Python objects."""

from mmmim.features.extractor import FeatureExtractor, Features

from .models import get_model, list_models

__all__ = ['FeatureExtractor', 'Features', 'get_model', 'list_models']
