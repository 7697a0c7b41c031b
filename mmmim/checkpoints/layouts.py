"""What files of weights look like that are not in the layout that was expected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mmmim.utils.names import printable

#: Names of weights, and whose layout they are of with the way to use it. The first that matches counts.
_LAYOUTS = [
    (
        r'encoder\.layers?\.\d+\.attention\.attention\.query|\.attention\.q_proj|embeddings\.cls_token',
        'It looks like a file of the library transformers of Hugging Face, whose names of weights are its own: take '
        "the authors' file, or for features and downstream tasks huggingface:FOLDER, with its config.json.",
    ),
    (
        r'decoder_blocks\.\d+\.attn\.qkv|decoder_pos_embed',
        "It looks like MAE's file in the layout of its authors: tools/model_converters/mae_to_mmmim.py.",
    ),
    (
        r'^(backbone\.)?layers\.\d+\.(ln1|attn\.qkv)',
        'It looks like a file of mmpretrain: tools/model_converters/mae_to_mmmim.py for MAE, mmpretrain:NAME=FILE '
        'for others.',
    ),
    (
        r'^blocks\.\d+\.attn\.qkv|^patch_embed\.proj\.',
        "It looks like a Vision Transformer in the layout of timm and of many authors: the method's converter in "
        'tools/model_converters (mae_to_mmmim.py for MAE), or timm:NAME=FILE.',
    ),
    (r'^backbone\.backbone\.', 'It looks like a model that was trained on an encoder: give that of the pre-training.'),
]


def describe_layout(checkpoint: Mapping[str, Any]) -> str:
    """What a file looks like, and what takes it, in a sentence for error messages.

    Args:
        checkpoint: What the file holds.
    """
    if isinstance(checkpoint.get('encoder'), Mapping) and 'predictor' in checkpoint:
        return "It looks like I-JEPA's file of its authors: tools/model_converters/ijepa_to_mmmim.py."
    parts = [checkpoint, *(value for value in checkpoint.values() if isinstance(value, Mapping))]
    for pattern, words in _LAYOUTS:
        if any(re.search(pattern, str(key)) for part in parts for key in part):
            return words
    names = [str(key)[:60] for key in checkpoint]
    inside = checkpoint.get('state_dict', checkpoint.get('model'))
    names = [str(key)[:60] for key in inside] if isinstance(inside, Mapping) and inside else names
    return (
        f'Its names are {printable(", ".join(names[:5]))}{", ..." if len(names) > 5 else ""}.'
        if names
        else 'It is empty.'
    )
