"""Models; importing this package registers them."""

from .algorithms import Branch, EMACopy, MaskedImageModeling
from .backbones import PretrainedBackbone, RoPEViT
from .data_preprocessors import MIMDataPreprocessor
from .heads import PrototypeHead
from .necks import CrossAttentionPredictor
from .target_generators import OnlineClustering

__all__ = [
    'Branch',
    'CrossAttentionPredictor',
    'EMACopy',
    'MIMDataPreprocessor',
    'MaskedImageModeling',
    'OnlineClustering',
    'PretrainedBackbone',
    'PrototypeHead',
    'RoPEViT',
]
