"""Weights that do not fit are refused by name: unknown, missing, of another shape, or of another method."""

import pytest
import torch

from mmmim.converters.registry import CONVERTERS
from mmmim.utils import InputError
from tests.test_converters.samples import SAMPLES, WHOLE, mae, mae_of_mmpretrain


def refused(message, name, weights=None, **options):
    sample = SAMPLES[name]
    file = sample.file(sample.weights() if weights is None else weights)
    with pytest.raises(InputError, match=message):
        CONVERTERS[sample.converter].convert(file, 'file.pth', **(sample.options | options))


def without(name, *beginnings):
    weights = SAMPLES[name].weights()
    kept = {key: value for key, value in weights.items() if not key.startswith(beginnings)}
    assert len(kept) < len(weights)
    return kept


@pytest.mark.parametrize(('name', 'keys'), [
    ('capi', ['backbone.encoder.blocks.0.ls1.gamma', 'head.last_layer.weight']),
    ('crossmae', ['norm.weight', 'decoder_embed.weight', 'decoder_blocks.0.attn.qkv.weight', 'dec_norms.0.gamma']),
    ('data2vec', ['blocks.0.attn.qkv.bias', 'pos_embed', 'blocks.0.attn.relative_position_bias_table']),
    ('ijepa', ['predictor.norm.weight', 'target_encoder.head.weight', 'encoder.predictor_norm.weight']),
    ('latent_mim', ['decoder.mask', 'fc.weight', 'module']),
    ('mae', ['blocks.0.ls1.gamma', 'decoder_head.weight']),
    ('mae of mmpretrain', ['blocks.0.norm1.weight']),
    ('mff', ['backbone.proj_layers.0.gamma', 'neck.weights', 'backbone.mask_token']),
    ('pilamim', ['encoder.transformer.0.attn.qkv.bias', 'decoder.head_latent.weight', 'decoder_embed.gamma']),
    ('semantic_mim', ['backbone.layers.0.attn.qkv.weight', 'backbone.norm.weight', 'fc.weight', 'head.cls_head']),
    ('simmim', ['backbone.cls_token', 'neck.decoder.1.weight', 'head.fc.weight']),
])  # fmt: skip
def test_unknown_keys(name, keys):
    for key in keys:
        message = rf'file\.pth: 1 keys are not in the layout of .* e\.g\. {key.removeprefix("module.")}\.'
        refused(message, name, SAMPLES[name].weights() | {key: torch.ones(1)})


#: What begins so is left out, and what is said of it.
MISSING = [
    ('capi', 'backbone.decoder.blocks.0.residual2.fn.fc1.weight', r'1 missing \(blocks\.0\.mlp\.fc1\.weight\)'),
    ('capi', 'backbone.mask_token', r'lack .*mask_token: not a CAPI encoder with predictor'),
    ('crossmae', 'wfm.', r'has no branches\.pixels\.neck\.mixture'),
    ('crossmae', 'dec_norms.1', r'2 missing \(context_norms\.1\.'),
    ('crossmae', 'decoder_blocks.2.cross_attn.kv', r'missing \(blocks\.2\.attn\.k_proj'),
    ('data2vec', 'blocks.0.gamma_1', r'1 missing \(blocks\.0\.scale1\.weight\)'),
    ('data2vec', 'rel_pos_bias', r'has no backbone\.positions\.table'),
    ('ijepa', 'predictor.mask_token', r'neck\.\*\) .* missing \(mask_token\)'),
    ('ijepa', 'encoder.pos_embed', r'has no backbone\.positions\.weight'),
    ('ijepa', 'predictor.predictor_embed.weight', r'has no branches\.latent\.neck\.embed\.weight'),
    ('latent_mim', 'target_encoder.head.norm1', r'\(teacher\.backbone\.\*\) .* missing \(projector\.norms\.1\.weight'),
    ('latent_mim', ('decoder.embed.', 'decoder.head.'), r'has no .*neck\.embed\.weight, .*neck\.proj\.weight'),
    ('mae', 'decoder_blocks.0.attn.qkv.bias', r'missing \(blocks\.0\.attn\.q_proj\.bias'),
    ('mff', 'backbone.proj_layers.0', r'missing \(projections\.0\.weight'),
    ('mff', 'backbone.proj_weights', 'has no backbone.proj_weights: not the whole of an MFF'),
    ('pilamim', 'target_decoder.pos_embedding', 'positions'),
    *(('pilamim', side, 'missing|has no')
      for side in ('target_encoder.', 'decoder.', 'decoder_latent_')),
    ('semantic_mim', 'backbone.layers.0.gamma_1', r'1 missing \(blocks\.0\.scale1\.weight\)'),
    ('semantic_mim', 'backbone.extra_layers.0', r'\(branches\.semantic\.neck\.\*\) .* missing \(blocks\.0'),
    ('semantic_mim, maskfeat', 'backbone.cls_token', r'has no backbone\.extra_tokens'),
    ('semantic_mim, maskfeat', 'backbone.pos_embed', r'has no backbone\.positions\.weight, backbone\.positions\.extra'),
    ('simmim', 'backbone.mask_token', 'has no mask token, stem or stages of a Swin Transformer'),
    ('simmim', 'backbone.stages.0.downsample', r'3 missing \(encoder\.stages\.0\.downsample'),
    ('simmim', 'neck.decoder.0.bias', r'neck\.\*\) .* missing \(proj\.bias'),
]  # fmt: skip


@pytest.mark.parametrize(('name', 'beginning', 'message'), MISSING)
def test_missing_keys(name, beginning, message):
    refused(message, name, without(name, *([beginning] if isinstance(beginning, str) else beginning)))


SHAPES = [
    ('capi', 'backbone.encoder.blocks.1.residual1.fn.proj.weight', (48, 47), r'blocks\.1\.attn\.proj\.weight'),
    ('capi', 'backbone.encoder.blocks.1.residual1.fn.rope.freqs', (2, 12), 'rotary table of another layer'),
    ('data2vec', 'mask_token', (1, 24), r'mask_token has the shape \[1, 24\], not \[1, 1, D\]'),
    ('data2vec', 'rel_pos_bias.relative_position_bias_table', (53, 4), '53 rows, which are of no square image'),
    ('ijepa', 'encoder.patch_embed.proj.weight', (48, 192), r'the patch embedding has the shape \[48, 192\]'),
    ('ijepa', 'predictor.mask_token', (24,), r'mask_token has the shape \[24\], not \[1, N, D\]'),
    ('latent_mim', 'encoder.blocks.0.attn.qkv.bias', (1,), r'q_proj\.bias: \[1\].*k_proj\.bias: \[0\]'),
    ('latent_mim', 'encoder.embed.proj.weight', (48, 193),
     r'encoder\.embed\.proj\.weight has the shape \[48, 193\], not \[D, 3'),
    ('mae', 'cls_token.weight', (1,), r'unexpected \(extra_tokens\.weight\)'),
    ('mae', 'pos_embed', (10, 64), r'file\.pth: pos_embed has the shape \[10, 64\], not \[1, 1 \+ N, D\]'),
    ('mae', 'pos_embed', (1, 9, 64), '8 patches, which are no square'),
    ('mae of mmpretrain', 'backbone.patch_embed.projection.weight', (48, 3, 4, 4), 'the width 48 does not tell'),
    ('mff', 'backbone.proj_weights', (3, 1, 1, 1), 'fuses 3 states of an encoder of 2 blocks: which ones the weights'),
    ('pilamim', 'decoder.head.weight', (9, 32), 'decoder.head does not predict the pixels of one patch'),
    ('pilamim', 'encoder.pos_embedding', (16, 48), r'pos_embedding has the shape \[16, 48\], not \[N, 1, D\]'),
    ('semantic_mim', 'backbone.cls_token', (3, 32), r'cls_token has the shape \[3, 32\], not \[1, tokens, D\]'),
    ('semantic_mim', 'backbone.mask_token', (2, 1, 32), r'mask_token has the shape \[2, 1, 32\]'),
    ('semantic_mim', 'backbone.pos_embed', (1, 18, 32), '15 patches, which are no square'),
    ('semantic_mim', 'backbone.layers.2.attn.q.weight', (32, 32), 'has both'),
    ('semantic_mim', 'neck.fc.bias', (24,), r'neck\.proj\.bias twice'),
    ('simmim', 'backbone.mask_token', (1, 8), r'backbone\.mask_token has the shape \[1, 8\], not \[1, 1, D\]'),
    ('simmim', 'neck.decoder.0.weight', (192, 16), r'neck\.decoder\.0\.weight has the shape \[192, 16\], not \[3'),
    ('simmim', 'backbone.norm1.weight', (3,), r'norm1\.weight'),
]  # fmt: skip


@pytest.mark.parametrize(('name', 'key', 'shape', 'message'), SHAPES)
def test_shapes(name, key, shape, message):
    refused(message, name, SAMPLES[name].weights() | {key: torch.ones(shape) if 'rope' in key else torch.zeros(shape)})


@pytest.mark.parametrize('name', WHOLE)
def test_heads(name):
    options = CONVERTERS[name].options
    for option, flag in (('num_heads', '--num-heads'), ('decoder_num_heads', '--decoder-num-heads')):
        if option in options:
            refused(rf'7 attention heads do not divide the width \d+: give {flag}', name, **{option: 7})
            refused(f'0 attention heads .* give {flag}', name, **{option: 0})
    if 'num_heads' in options and name not in ('mae', 'mff'):  # whose heads have 64 channels
        refused(r'the width \d+ does not tell how many .*: give --num-heads', name, num_heads=None)


@pytest.mark.parametrize(
    ('name', 'key'), [('latent_mim', 'decoder.pos_embed.pos_embeds'), ('mae', 'decoder_pos_embed')]
)
def test_a_position_of_cls(name, key):
    table = SAMPLES[name].weights()[key].clone()
    table.view(-1)[3] = 0.1
    message = f'first row of {key}, .*CLS, is not zero|{key}: the first row'
    refused(message, name, SAMPLES[name].weights() | {key: table})


@pytest.mark.parametrize('name', WHOLE)
def test_what_is_no_table_of_weights(name):
    message = r'x\.pth holds no flat table of tensors|has no encoder, target_encoder, predictor'
    for file in ({'epoch': 3}, {}, {'state_dict': 5}, {'state_dict': {}}, {'model': {3: torch.zeros(1)}}, {'a': {}}):
        with pytest.raises(InputError, match=message):
            CONVERTERS[name].convert(file, 'x.pth')


def test_files_of_other_models():
    ijepa = WHOLE['ijepa'].file(WHOLE['ijepa'].weights())
    head = {'head.weight': torch.ones(10, 64), 'fc_norm.weight': torch.ones(64)}
    one = torch.ones(1)
    for name, file, message in (
        *(('ijepa', {key: value for key, value in ijepa.items() if key != part},
           f'has no {part}: a training checkpoint of I-JEPA holds the tables') for part in ('encoder', 'predictor')),
        ('ijepa', {'model': {}}, r'has no encoder, target_encoder, predictor.*This file has model'),
        ('ijepa', {**ijepa, 'predictor': {'module.mask_token': None}},
         r'file\.pth, predictor holds no flat table of tensors \(not tensors: '),
        ('mae', {'model': mae(False) | head}, r'is a classifier \(head\.weight, fc_norm\.weight\)'),
        ('mae', {'state_dict': mae_of_mmpretrain(False) | {'head.fc.weight': one}}, 'is a classifier'),
        ('mae', {'state_dict': {'backbone.patch_embed.weight': one}},
         'no known layout of MAE: neither that of the authors .* nor that of mmpretrain'),
        ('mae', {'vit.embeddings.cls_token': one},
         r'no known layout of MAE.*transformers of Hugging Face.*huggingface:FOLDER'),
        ('semantic_mim', {key: value for key, value in WHOLE['semantic_mim'].weights().items() if '.attn.' not in key},
         'has neither'),
        ('capi', {'teacher.head.layer.bias': one}, "is one rank's shard of a training checkpoint"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            CONVERTERS[name].convert(file, 'file.pth')
