"""The algorithm that trains a model: masked image modelling."""

from .masked_image_modeling import Branch, MaskedImageModeling

__all__ = ['Branch', 'MaskedImageModeling']
