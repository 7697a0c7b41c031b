"""A folder that transformers loads: ``AutoModel.from_pretrained(FOLDER)``.

Encoders that are a model of transformers become one; for all others the folder has the code of the model.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from mmmim.checkpoints.safetensors_file import write_safetensors
from mmmim.converters.vit_layouts import DINOV2, HUGGING_FACE
from mmmim.utils.atomic import write_text_atomically

from .card import write_card
from .formats import Export
from .twins import Facts, complete_state, facts_of

#: The code of a model that transformers lacks: a file that needs nothing but torch and transformers.
CODE = Path(__file__).with_name('modeling_mmmim_vit.py')


def write_huggingface(export: Export) -> str:
    """Write config, weights, preprocessing and page, and the code of the model where transformers has none."""
    facts = facts_of(export, 'huggingface')
    name, config, weights = twin(facts) or own_code(facts)
    processor = {
        'image_processor_type': 'ViTImageProcessor',
        'do_resize': True,
        'size': dict(zip(('height', 'width'), facts.image_size, strict=True)),
        'resample': 3,
        'do_rescale': True,
        'rescale_factor': 1 / 255,
        'do_normalize': True,
        'image_mean': facts.mean,
        'image_std': facts.std,
    }
    export.out.mkdir(parents=True, exist_ok=True)
    write_safetensors(export.out / 'model.safetensors', weights, None)
    for file, content in (('config.json', config), ('preprocessor_config.json', processor)):
        write_text_atomically(json.dumps(content, indent=2) + '\n', export.out / file)
    options = {
        'ViT': ', add_pooling_layer=False',
        'Beit': ', add_pooling_layer=False',
        'IJepa': ', add_pooling_layer=False',
    }
    more = options.get(name, '')
    if 'auto_map' in config:
        write_text_atomically(CODE.read_text(encoding='utf-8'), export.out / CODE.name)
        more = ', trust_remote_code=True'
    use = f"AutoModel.from_pretrained('{export.out}'{more})"
    code = (
        'from transformers import AutoImageProcessor, AutoModel\n\n'
        f"processor = AutoImageProcessor.from_pretrained('{export.out}')\n"
        f'model = {use}\n'
        "tokens = model(**processor(image, return_tensors='pt')).last_hidden_state"
    )
    remarks = ['Tokens are those after the final norm: CLS and registers first, then patches.']
    if 'auto_map' in config:
        remarks.append(f'The model is the code in `{CODE.name}`, since transformers has none like it.')
    write_card(export, facts, 'transformers', code, remarks)
    return f'transformers.{use}'


def twin(facts: Facts) -> tuple[str, dict[str, Any], dict[str, Tensor]] | None:
    """The model of transformers that computes the same.

    Args:
        facts: What the encoder is made of.

    Returns:
        Name of its class without ``Model``, config and weights; None where there is none.
    """
    vit = facts.vit
    height, width = facts.image_size
    plain = (
        not (facts.rotary or facts.relative) and facts.norm == 'layer' and facts.final_norm and not facts.num_registers
    )
    if not plain or vit.num_cls_tokens > 1 or height != width:
        return None
    layout = HUGGING_FACE
    more: dict[str, Any] = {'qkv_bias': facts.query_bias}
    if not facts.scaled:
        name, kind = ('ViT', 'vit') if vit.num_cls_tokens else ('IJepa', 'ijepa')
    elif not vit.num_cls_tokens:
        return None
    elif not facts.key_bias and facts.query_bias:
        name, kind = 'Beit', 'beit'
        more = {
            'use_mask_token': vit.mask_token is not None,
            'use_absolute_position_embeddings': True,
            'use_relative_position_bias': False,
            'use_shared_relative_position_bias': False,
            'use_mean_pooling': False,
            'layer_scale_init_value': 1.0,
        }
    elif facts.hidden % vit.embed_dim == 0:
        name, kind, layout = 'Dinov2', 'dinov2', DINOV2
        more |= {'mlp_ratio': facts.hidden // vit.embed_dim, 'use_mask_token': vit.mask_token is not None}
    else:
        return None
    config = {
        'architectures': [f'{name}Model'],
        'model_type': kind,
        'hidden_size': vit.embed_dim,
        'num_hidden_layers': vit.depth,
        'num_attention_heads': facts.heads,
        'intermediate_size': facts.hidden,
        'hidden_act': 'gelu',
        'hidden_dropout_prob': 0.0,
        'attention_probs_dropout_prob': 0.0,
        'layer_norm_eps': facts.norm_eps,
        'image_size': height,
        'patch_size': vit.patch_size,
        'num_channels': vit.in_channels,
        **more,
    }
    weights = layout.rename(complete_state(facts, key_bias=name != 'Beit'), vit.num_cls_tokens)
    if name in ('ViT', 'IJepa'):
        weights.pop('embeddings.mask_token', None)
    elif name == 'Dinov2' and vit.mask_token is not None:
        weights['embeddings.mask_token'] = weights['embeddings.mask_token'].reshape(1, -1)
    return name, config, weights


def own_code(facts: Facts) -> tuple[str, dict[str, Any], dict[str, Tensor]]:
    """The model whose code the folder has: name, config and weights."""
    vit = facts.vit
    state = {key: value.detach().float() for key, value in vit.state_dict().items()}
    left_out = ('positions.freqs', 'mask_token')
    weights = {key: value for key, value in state.items() if key not in left_out and not key.startswith('projector.')}
    module = CODE.stem
    config = {
        'architectures': ['MmmimViTModel'],
        'model_type': 'mmmim_vit',
        'auto_map': {'AutoConfig': f'{module}.MmmimViTConfig', 'AutoModel': f'{module}.MmmimViTModel'},
        'hidden_size': vit.embed_dim,
        'num_hidden_layers': vit.depth,
        'num_attention_heads': facts.heads,
        'intermediate_size': facts.hidden,
        'image_size': list(facts.image_size),
        'patch_size': vit.patch_size,
        'num_channels': vit.in_channels,
        'num_cls_tokens': vit.num_cls_tokens,
        'num_registers': facts.num_registers,
        'rotary_positions': facts.rotary,
        'relative_positions': facts.relative,
        'extra_positions': 'positions.extra' in weights,
        'norm': facts.norm,
        'layer_norm_eps': facts.norm_eps,
        'final_norm': facts.final_norm,
        'final_affine': 'norm.weight' in weights,
        'linear_bias': facts.bias,
        'query_bias': facts.query_bias,
        'key_bias': facts.key_bias,
        'layer_scale': facts.scaled,
    }
    return 'MmmimViT', config, weights
