"""A folder that timm loads: ``timm.create_model('local-dir:FOLDER', pretrained=True)``."""

from __future__ import annotations

import json
from typing import Any

from mmmim.checkpoints.safetensors_file import write_safetensors
from mmmim.converters.vit_layouts import TIMM
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically

from .card import write_card
from .formats import Export
from .twins import Facts, complete_state, facts_of

#: A plain Vision Transformer of timm by the epsilon of its norms, which nothing else of timm sets; all sizes are given.
_ARCHITECTURES = {1e-6: 'vit_base_patch16_224', 1e-5: 'vit_base_patch16_clip_224'}


def write_timm(export: Export) -> str:
    """Write config, weights and page.

    Raises:
        InputError: timm has no such encoder.
    """
    facts = facts_of(export, 'timm')
    lacking = {
        'rotary positions with registers on the border': facts.rotary,
        'relative positions': facts.relative,
        'RMSNorm': facts.norm == 'rms',
        f'norm_eps={facts.norm_eps:g}': facts.norm_eps not in _ARCHITECTURES,
    }
    if words := [word for word, true in lacking.items() if true]:
        raise InputError(
            f"timm's VisionTransformer cannot be {export.source}, which has {' and '.join(words)}: use --to "
            'huggingface, whose folder brings its code, onnx or torch-export.'
        )
    has_cls = facts.vit.num_cls_tokens > 0
    pool = 'token' if has_cls else 'avg'
    options = model_args(facts)
    size = [facts.vit.in_channels, *facts.image_size]
    config = {
        'architecture': _ARCHITECTURES[facts.norm_eps],
        'num_classes': 0,
        'num_features': facts.vit.embed_dim,
        'global_pool': pool,
        'model_args': {**options, 'global_pool': pool},
        'pretrained_cfg': {
            'num_classes': 0,
            'input_size': size,
            'fixed_input_size': True,
            'interpolation': 'bicubic',
            'crop_pct': 1.0,
            'crop_mode': 'center',
            'mean': facts.mean,
            'std': facts.std,
            'pool_size': None,
            'first_conv': 'patch_embed.proj',
            'classifier': 'head',
        },
    }
    export.out.mkdir(parents=True, exist_ok=True)
    weights = TIMM.rename(complete_state(facts, key_bias=True), facts.vit.num_cls_tokens)
    write_safetensors(export.out / 'model.safetensors', weights, None)
    write_text_atomically(json.dumps(config, indent=2) + '\n', export.out / 'config.json')
    use = f"timm.create_model('local-dir:{export.out}', pretrained=True)"
    remarks = [
        'Tokens after the final norm are those of `forward_features`: CLS and registers first, then patches. On images '
        'of other sizes (`dynamic_img_size=True`) timm interpolates positions with antialiasing and mmmim without, so '
        'features differ slightly.',
    ]
    if facts.vit.num_cls_tokens > 1:
        remarks.append('All tokens that stand for the image but the first are registers here.')
    write_card(export, facts, 'timm', f'import timm\n\nmodel = {use}', remarks)
    return use


def model_args(facts: Facts) -> dict[str, Any]:
    """Arguments of timm's VisionTransformer."""
    height, width = facts.image_size
    return {
        'img_size': height if height == width else [height, width],
        'patch_size': facts.vit.patch_size,
        'in_chans': facts.vit.in_channels,
        'embed_dim': facts.vit.embed_dim,
        'depth': facts.vit.depth,
        'num_heads': facts.heads,
        'mlp_ratio': facts.hidden / facts.vit.embed_dim,
        'qkv_bias': facts.query_bias,
        'class_token': facts.vit.num_cls_tokens > 0,
        'reg_tokens': facts.vit.num_extra_tokens - min(facts.vit.num_cls_tokens, 1),
        'init_values': 1.0 if facts.scaled else None,
        'final_norm': facts.final_norm,
        'fc_norm': False,
        'pre_norm': False,
    }
