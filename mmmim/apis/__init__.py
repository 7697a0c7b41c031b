"""What a name or a file stands for."""

from mmmim.features import FeatureExtractor, Features

from .models import get_model, list_models

__all__ = ['FeatureExtractor', 'Features', 'get_model', 'list_models']
