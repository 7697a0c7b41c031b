"""Files in every layout that can be converted, with toy weights."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch

from mmmim.converters.registry import CONVERTERS
from mmmim.registry import MODELS
from tests.paths import ROOT
from tests.reference_common import Draw, perturbed

MAE_DIM, MAE_DECODER_DIM, MAE_PATCH, MAE_GRID = 64, 32, 4, 3


@cache
def recorded(name):
    with np.load(ROOT / f'tests/data/{name}_tiny.npz') as file:
        return dict(file)


def recorded_weights(name, prefix, keep=()):
    """Weights of a recorded run, under the authors' names: all, or those that begin with one of ``keep``."""
    weights = {k.removeprefix(prefix): torch.tensor(a) for k, a in recorded(name).items() if k.startswith(prefix)}
    return {key: value for key, value in weights.items() if key.startswith(tuple(keep) or '')}


def capi(head=True):
    weights = {f'backbone.{key}': value for key, value in recorded_weights('capi', 'sd.student.').items()}
    if head:
        weights |= {f'head.{key}': value for key, value in recorded_weights('capi', 'sd.student_head.').items()}
    return weights


def crossmae():
    return recorded_weights('crossmae', 'param/')


def data2vec():
    return recorded_weights('data2vec', 'param/')


def data2vec_file(weights):
    """As the training of the authors writes it, with the index of the table of positions."""
    index = torch.tensor(recorded('data2vec')['rel_pos_index'])
    return {'model': weights | {'rel_pos_bias.relative_position_index': index}, 'optimizer': {}, 'epoch': 799}


def ijepa():
    return recorded_weights('ijepa', 'sd.')


def ijepa_file(weights):
    """As the training of the authors writes it."""
    parts = ('encoder', 'predictor', 'target_encoder')
    tables = {
        part: {f'module.{k.removeprefix(f"{part}.")}': v for k, v in weights.items() if k.startswith(f'{part}.')}
        for part in parts
    }
    optimiser = {'state': {0: {'exp_avg': torch.zeros(3), 'step': torch.tensor(7.0)}}, 'param_groups': [{'lr': 1e-3}]}
    return tables | {'opt': optimiser, 'scaler': {'scale': 65536.0}, 'epoch': 300, 'loss': 0.17, 'lr': 1e-6}


def latent_mim(*sides):
    return recorded_weights('latentmim', 'sd/', sides)


def pilamim():
    return recorded_weights('pilamim', 'sd/')


def semantic_mim(kind):
    return recorded_weights(f'semanticmim_{kind}', 'sd/')


def trained(weights):
    """As trainings of Latent MIM and mmengine write it, for SemanticMIM with what its target generator holds."""
    state = {f'module.{key}': value for key, value in weights.items()}
    if any(key.startswith('backbone.') for key in weights):
        state['module.target_generator.blocks.input.w'] = torch.ones(2)
    return {'state_dict': state, 'optimizer': {'state': {}}, 'meta': {}, 'epoch': 800}


def mae(decoder=True):
    """Random weights in the layout of the authors."""
    rng = torch.Generator().manual_seed(0)
    draw = Draw(rng, lambda *shape: draw.normal(*shape))

    def encoder(prefix, dim, depth):
        tokens = {f'{prefix}pos_embed': draw.normal(1, 1 + MAE_GRID**2, dim)}
        return tokens | draw.blocks(f'{prefix}blocks', depth, dim) | draw.normed(f'{prefix}norm', dim)

    weights = encoder('', MAE_DIM, 2) | draw.full('patch_embed.proj', MAE_DIM, 3 * MAE_PATCH**2)
    weights['patch_embed.proj.weight'] = weights['patch_embed.proj.weight'].unflatten(1, (3, MAE_PATCH, MAE_PATCH))
    weights['cls_token'] = draw.normal(1, 1, MAE_DIM)
    weights |= encoder('decoder_', MAE_DECODER_DIM, 1) | {'mask_token': draw.normal(1, 1, MAE_DECODER_DIM)}
    weights |= draw.full('decoder_embed', MAE_DECODER_DIM, MAE_DIM)
    weights |= draw.full('decoder_pred', 3 * MAE_PATCH**2, MAE_DECODER_DIM)
    weights = {key: value.float() for key, value in perturbed(weights, 1.0, rng).items()}
    weights['decoder_pos_embed'][:, 0] = 0
    return {key: value for key, value in weights.items() if decoder or not key.startswith(('decoder', 'mask_token'))}


_INSIDE = {'norm1': 'ln1', 'norm2': 'ln2', 'mlp.fc1': 'ffn.layers.0.0', 'mlp.fc2': 'ffn.layers.1'}
_OUTSIDE = {
    'patch_embed.proj': 'backbone.patch_embed.projection',
    'cls_token': 'backbone.cls_token',
    'pos_embed': 'backbone.pos_embed',
    'norm': 'backbone.ln1',
    'decoder_norm': 'neck.ln1',
}


def mae_of_mmpretrain(decoder=True):
    """The same weights as :func:`mae` in the layout of mmpretrain."""
    renamed = {}
    for key, value in mae(decoder).items():
        for one, other in _INSIDE.items():
            key = key.replace(f'.{one}.', f'.{other}.')
        for one, other in _OUTSIDE.items():
            if key == one or key.startswith(f'{one}.'):
                key = other + key.removeprefix(one)
                break
        else:
            key = f'backbone.layers{key.removeprefix("blocks")}' if key.startswith('blocks.') else f'neck.{key}'
        renamed[key] = value
    return renamed


def random_weights(**config):
    """Those of a model of mmpretrain."""
    torch.manual_seed(0)
    model = MODELS.build({**config, '_scope_': 'mmpretrain'})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return {key: value.detach().clone() for key, value in model.state_dict().items()}


def mff():
    """All blocks are fused, and CLS has no position."""
    arch = dict(embed_dims=MAE_DIM, num_layers=2, num_heads=4, feedforward_channels=4 * MAE_DIM)
    decoder = dict(decoder_embed_dim=MAE_DECODER_DIM, decoder_depth=1, decoder_num_heads=2)
    weights = random_weights(
        type='mmpretrain.MFF',
        backbone=dict(type='MFFViT', arch=arch, img_size=12, patch_size=MAE_PATCH, out_indices=[0, 1]),
        neck=dict(type='MAEPretrainDecoder', num_patches=9, patch_size=MAE_PATCH, embed_dim=MAE_DIM, **decoder),
        head=dict(type='MAEPretrainHead', loss=dict(type='PixelReconstructionLoss', criterion='L2')),
    )
    for key in ('backbone.pos_embed', 'neck.decoder_pos_embed'):
        weights[key][:, 0] = 0
    return weights


def simmim(decoder=True):
    """A Swin Transformer of two stages."""
    arch = dict(embed_dims=8, depths=[1, 2], num_heads=[1, 2])
    windows = dict(block_cfgs=dict(window_size=3))
    weights = random_weights(
        type='mmpretrain.SimMIM',
        backbone=dict(type='SimMIMSwinTransformer', arch=arch, img_size=24, stage_cfgs=windows, out_indices=(1,)),
        neck=dict(type='SimMIMLinearDecoder', in_channels=16, encoder_stride=8),
        head=dict(
            type='SimMIMHead', patch_size=4, loss=dict(type='PixelReconstructionLoss', criterion='L1', channel=3)
        ),
    )
    return {key: value for key, value in weights.items() if decoder or not key.startswith('neck.')}


@dataclass
class Sample:
    """A layout.

    Attributes:
        converter: Name of the converter that takes it.
        weights: Makes the weights.
        options: What the weights do not tell.
        said: What the tool says of them.
        file: Makes the content of the file from the weights.
        lacks: Parts of the model that the file does not hold, as prefixes of mmmim's names.
    """

    converter: str
    weights: Callable[[], dict[str, torch.Tensor]]
    options: dict[str, Any] = field(default_factory=dict)
    said: str = ''
    file: Callable[[dict], dict] = dict
    lacks: tuple[str, ...] = ()

    @property
    def words(self):
        return [word for key, value in self.options.items() for word in (f'--{key.replace("_", "-")}', str(value))]


_ONE, _BOTH = {'num_heads': 4}, {'num_heads': 4, 'decoder_num_heads': 4}
_VIT = '2 blocks x 48 with 4 heads, patch 8'
_OF_CAPI = ('teacher.', 'branches.capi.target_generator.')
_TARGET, _DECODER, _NO_DECODER = 'teacher.', 'branches.latent.neck.', '; no decoder: for features only'
SAMPLES = {
    'capi': Sample('capi', capi, said='3 blocks x 48 with 4 heads, patch 8, 128 px, 8 registers; ', lacks=_OF_CAPI),
    'capi without head': Sample(
        'capi', lambda: capi(False), said='parameters with predictor', lacks=(*_OF_CAPI, 'branches.capi.head.')
    ),
    'crossmae': Sample(
        'crossmae',
        crossmae,
        {'num_heads': 4, 'decoder_num_heads': 2},
        '4 blocks x 24 with 4 heads, patch 8, 32 px; decoder of 3 blocks x 16 with 2 heads, 5 states, normalised',
        lambda w: {'model': w, 'epoch': 799},
    ),
    'data2vec': Sample(
        'data2vec',
        data2vec,
        {},
        '4 blocks x 24 with 4 heads, patch 8, 32 px, mask token, relative positions and last layer',
        data2vec_file,
        ('teacher.',),
    ),
    'ijepa': Sample(
        'ijepa', ijepa, _ONE, f'{_VIT}, 64 px, target encoder and encoder; predictor of 2 blocks x 24', ijepa_file
    ),
    'latent_mim': Sample(
        'latent_mim',
        latent_mim,
        _BOTH,
        f'{_VIT}, 32 px, with its target encoder; decoder of 2 blocks x 32 with 4 heads',
        trained,
    ),
    'latent_mim, bare': Sample('latent_mim', latent_mim, _BOTH),
    'latent_mim, wrapped': Sample('latent_mim', latent_mim, _BOTH, file=lambda w: {'state_dict': w}),
    'latent_mim, encoder': Sample(
        'latent_mim',
        lambda: latent_mim('encoder'),
        _ONE,
        f'without its target encoder{_NO_DECODER}',
        lacks=(_TARGET, _DECODER),
    ),
    'latent_mim, encoders': Sample(
        'latent_mim',
        lambda: latent_mim('encoder', 'target'),
        _ONE,
        f'with its target encoder{_NO_DECODER}',
        lacks=(_DECODER,),
    ),
    'latent_mim, no target': Sample(
        'latent_mim',
        lambda: latent_mim('encoder', 'decoder'),
        _BOTH,
        'without its target encoder; decoder of 2 blocks x 32',
        lacks=(_TARGET,),
    ),
    'mae': Sample(
        'mae',
        mae,
        {'num_heads': 4, 'decoder_num_heads': 2},
        '2 blocks x 64 with 4 heads, patch 4, 12 px; decoder of 1 blocks x 32 with 2 heads, normalised pixels',
        lambda w: {'model': w},
    ),
    'mae, encoder': Sample(
        'mae', lambda: mae(False), {}, _NO_DECODER, lambda w: {'model': w}, ('branches.pixels.neck.',)
    ),
    'mae of mmpretrain': Sample(
        'mae', mae_of_mmpretrain, {}, '32 with 16 heads', lambda w: {'state_dict': w, 'meta': {}}
    ),
    'mae of mmpretrain, encoder': Sample(
        'mae', lambda: mae_of_mmpretrain(False), {}, _NO_DECODER, lacks=('branches.pixels.neck.',)
    ),
    'mff': Sample(
        'mff',
        mff,
        {'num_heads': 4, 'decoder_num_heads': 2},
        'decoder of 1 blocks x 32 with 2 heads, normalised pixels, from states of blocks 0, 1',
        lambda w: {'state_dict': w, 'meta': {}},
    ),
    'pilamim': Sample(
        'pilamim',
        pilamim,
        _BOTH,
        f'{_VIT}, 32 px, with its target encoder; decoders of pixels: 2 blocks x 32 with 4 heads; '
        'latent: 2 blocks x 40 with 4 heads',
    ),
    'semantic_mim': Sample(
        'semantic_mim',
        lambda: semantic_mim('beit'),
        _ONE,
        '2 blocks x 32 with 4 heads, patch 8, 32 px, 3 proxies; 2 blocks beside it, 24 outputs for mmmim.TokenizerT',
        trained,
        ('branches.semantic.target_generator.',),
    ),
    'semantic_mim, maskfeat': Sample(
        'semantic_mim',
        lambda: semantic_mim('maskfeat'),
        _ONE,
        '108 outputs for mmmim.HOGTarget',
        trained,
        ('branches.semantic.target_generator.',),
    ),
    'simmim': Sample(
        'simmim',
        simmim,
        {},
        'Swin Transformer of 1 + 2 blocks x 8 and wider, windows of 3, 24 px; pixels',
        lambda w: {'state_dict': w, 'meta': {}},
    ),
    'simmim, encoder': Sample(
        'simmim', lambda: simmim(False), {}, '; no head: for features only', lacks=('branches.pixels.neck.',)
    ),
}
#: One whole file for each converter.
WHOLE = {name: SAMPLES[name] for name in CONVERTERS}
