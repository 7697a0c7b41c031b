"""Where a pre-training starts: the encoder of a file in the place of random weights, strictly, and said in one line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mmmim.checkpoints import load_state_dict, trusting
from mmmim.models.algorithms import MaskedImageModeling
from mmmim.models.backbones import ViT
from mmmim.models.layers import AxialRoPE, PositionTable, RelativePositions, resampled_table
from mmmim.registry import MODELS
from mmmim.utils import InputError

from .encoder_files import EncoderFile, read_encoder

#: Parts of an encoder that must fit; all others may start anew, or be left out.
_STRICT = ('patch_embed', 'blocks')
#: Parts that come from the file where both have them in the same shape, and their names in words.
_WHOLE = {
    'norm': 'final norm',
    'embedding_norm': 'norm before the blocks',
    'mask_token': 'mask token',
    'projector': 'projector',
}
#: Of weights that the file lacks, the values with which the encoder computes the same.
_NEUTRAL = (
    (re.compile(r'blocks\.\d+\.(attn\.\w+|mlp\.fc[12])\.bias'), 0.0),
    (re.compile(r'blocks\.\d+\.scale[12]\.weight'), 1.0),
)


@dataclass
class Start:
    """What an encoder starts from.

    Attributes:
        state: All weights of the encoder.
        loaded: What comes from the file, in words.
        anew: What does not.
        left_out: What of the file is not used.
        remarks: What else is to be said.
    """

    state: dict[str, Tensor]
    loaded: list[str] = field(default_factory=list)
    anew: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def check_start(cfg: Mapping[str, Any]) -> None:
    """Refuse what a config names as the start of its encoder, before anything is made.

    Args:
        cfg: A config whose key ``init`` is ``dict(source=..., weights='auto')`` or None.

    Raises:
        InputError: The config is not one of pre-training, or there is another start; or as :func:`start_from`.
    """
    init = cfg.get('init')
    if init is None:
        return
    model = cfg.get('model') or {}
    kind = MODELS.get(model['type']) if isinstance(model.get('type'), str) else model.get('type')
    if not (isinstance(kind, type) and issubclass(kind, MaskedImageModeling)):
        raise InputError(
            'init (--init) is where the encoder of a pre-training starts, and this config trains another model: for '
            'a downstream task, --pretrained CHECKPOINT.'
        )
    if cfg.get('load_from') and not cfg.get('resume'):
        raise InputError('init starts the encoder and load_from the whole model from a file: leave one of them out.')
    if model['backbone'].get('init_cfg') is not None:
        raise InputError('init and model.backbone.init_cfg both say where the encoder starts: leave one of them out.')
    with torch.device('meta'):
        backbone = MODELS.build(dict(model['backbone']))
    with trusting(cfg.get('trust_checkpoint', False)):
        fit(read_encoder(str(init['source']), init.get('weights', 'auto')), backbone, str(init['source']))


def start_from(model: nn.Module, source: str, weights: str = 'auto') -> None:
    """Give the encoder of a pre-training, student and teacher alike, the weights of a file, and log what was done.

    Args:
        model: A :class:`MaskedImageModeling`, initialised.
        source: What :func:`mmmim.apis.encoder_files.read_encoder` takes.
        weights: 'ema', 'student' or 'auto', of a checkpoint of mmmim.

    Raises:
        InputError: The file does not fit, naming what.
    """
    if not isinstance(model, MaskedImageModeling):
        raise InputError(f'init is for pre-training (MaskedImageModeling), not for a {type(model).__name__}.')
    file = read_encoder(source, weights)
    start = fit(file, model.backbone, source)
    load_state_dict(model.backbone, start.state, source)
    teacher = model.teacher if model.teacher is not None and 'backbone' in model.teacher.parts else None
    if teacher is not None:
        load_state_dict(teacher.backbone, start.state, source)
    rest = [f'branches.{name}' for name in model.branches]
    who = 'encoder has' if teacher is None else 'encoder and its teacher have'
    sentences = [
        f'Start: the {who} weights of {source} ({file.what}): {", ".join(start.loaded)}',
        f'start anew: {", ".join([*start.anew, *rest])}',
    ]
    if start.left_out:
        sentences.append(f'left out of the file: {", ".join(start.left_out)}')
    print_log('; '.join([*sentences, *start.remarks]) + '.', logger='current')


def fit(file: EncoderFile, encoder: nn.Module, source: str) -> Start:
    """What of a file an encoder takes.

    The patch embedding and all blocks must fit. Learned tokens, positions, the final norm, the mask token and the
    projector come from the file where both have them; learned positions are interpolated for another grid. Biases
    that the file lacks are 0 and factors of residual branches 1, with which the encoder computes what the file's does.

    Args:
        file: The encoder of the file.
        encoder: The encoder that is to take it; on the meta device, too.
        source: How messages call the file.

    Raises:
        InputError: Patches, channels, width, depth, heads or norms differ, or weights of the blocks do.
    """
    if not isinstance(encoder, ViT):
        raise InputError(f'init: model.backbone is a {type(encoder).__name__}: only a mmmim.ViT can start from a file.')
    given = file.sizes
    _check_sizes(given, encoder, source)
    own, state = encoder.state_dict(), dict(file.state)
    start = Start(dict(own), ['patch embedding', f'{encoder.depth} blocks'])
    _take_tokens(state, given, encoder, start)
    _take_positions(state, given, encoder, start)
    for part, words in _WHOLE.items():
        ours, theirs = ({k: v for k, v in each.items() if k.split('.')[0] == part} for each in (own, state))
        if ours and _shapes(ours) == _shapes(theirs):
            start.state |= theirs
            start.loaded.append(words)
        else:
            start.anew += [words] if ours else []
            start.left_out += [words] if theirs else []
    strange, neutral = [], set()
    if not isinstance(encoder.positions, AxialRoPE):  # softmax does not see a bias of keys, unless they are turned
        state = {k: v for k, v in state.items() if k in own or not k.endswith('.attn.k_proj.bias')}
    own, state = ({k: v for k, v in each.items() if k.split('.')[0] in _STRICT} for each in (own, state))
    for key in own.keys() - state.keys():
        value = next((value for pattern, value in _NEUTRAL if pattern.fullmatch(key)), None)
        if value is None:
            strange.append(f'{key} is missing in it')
        else:
            start.state[key] = torch.full(own[key].shape, value, dtype=own[key].dtype)
            neutral.add('biases are 0' if value == 0 else 'factors of residual branches are 1')
    strange += [f'{key} has no place here' for key in state.keys() - own.keys()]
    strange += [
        f'{key} is {list(state[key].shape)}, here {list(own[key].shape)}'
        for key in state.keys() & own.keys()
        if state[key].shape != own[key].shape
    ]
    if strange:
        raise InputError(
            f'{source} does not fit model.backbone: {"; ".join(sorted(strange)[:3])}'
            f'{"; ..." if len(strange) > 3 else ""}. Make mlp_ratio, bias, qkv_bias, norm and layer_scale of '
            'model.backbone those of the file.'
        )
    start.state |= state
    start.remarks += [f'{words}, which the file lacks' for words in sorted(neutral)]
    eps = [each.blocks[0].norm1.eps for each in (given, encoder)]
    if eps[0] != eps[1]:
        start.remarks.append(f'norm_eps is {eps[1]:g} here, {eps[0]:g} in the file')
    return start


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in weights.items()}


def _check_sizes(given: ViT, encoder: ViT, source: str) -> None:
    pairs = {
        'patch_size': (given.patch_size, encoder.patch_size),
        'in_channels': (given.in_channels, encoder.in_channels),
        'embed_dim': (given.embed_dim, encoder.embed_dim),
        'depth': (given.depth, encoder.depth),
        'post_norm': tuple(each.blocks[0].post_norm for each in (given, encoder)),
        'num_heads': tuple(each.blocks[0].attn.num_heads for each in (given, encoder)),
        'norm': tuple(
            'layer' if isinstance(each.blocks[0].norm1, nn.LayerNorm) else 'rms' for each in (given, encoder)
        ),
    }
    if wrong := {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}:
        theirs = ', '.join(f'{key}={pair[0]}' for key, pair in wrong.items())
        ours = ', '.join(f'{pair[1]}' for pair in wrong.values())
        raise InputError(
            f'{source} does not fit model.backbone: it has {theirs}, the config {ours}. Use a file of this size, or '
            'change model.backbone and what depends on it.'
        )


def _take_positions(state: dict[str, Tensor], given: ViT, encoder: ViT, start: Start) -> None:
    """Vectors of the patches; those of learned tokens are added to the tokens where the encoder has none."""
    theirs, ours = given.positions, encoder.positions
    grids = [f'{grid[0]} x {grid[1]}' for grid in (given.grid, encoder.grid)]
    interpolated = '' if grids[0] == grids[1] else f' interpolated from {grids[0]} to {grids[1]}'
    if isinstance(theirs, RelativePositions) and isinstance(ours, RelativePositions):
        start.state['positions.table'] = resampled_table(state['positions.table'], given.grid, encoder.grid)
        start.loaded.append(f'relative positions{interpolated}')
        return
    if not isinstance(theirs, PositionTable) or not isinstance(ours, PositionTable):
        same = type(theirs) is type(ours)
        (start.loaded if same else start.anew).append('rotary positions' if same else 'positions')
        if not same:
            start.left_out.append('positions')
        return
    table = state['positions.weight']
    if ours.fixed_buffers:
        own = start.state['positions.weight']
        if own.shape == table.shape and not own.is_meta:
            equal = torch.allclose(own, table.to(own), atol=1e-3)
        else:
            equal = bool(theirs.fixed_buffers)
        if equal:
            start.loaded.append('fixed positions')
        else:
            start.anew.append('positions, which are fixed here')
            start.left_out.append('positions')
        return
    start.state['positions.weight'] = _interpolated(table, given.grid, encoder.grid)
    start.loaded.append(f'positions{interpolated}')


def _interpolated(table: Tensor, grid: tuple[int, int], other: tuple[int, int]) -> Tensor:
    positions = PositionTable(grid, table.shape[1], learnable=True)
    with torch.no_grad():
        positions.weight.copy_(table)
        return positions.codes(other).clone()


def _take_tokens(state: dict[str, Tensor], given: ViT, encoder: ViT, start: Start) -> None:
    """CLS tokens and registers, each where both encoders have as many."""
    kinds = [
        (('CLS', each.num_cls_tokens), ('registers', each.num_extra_tokens - each.num_cls_tokens))
        for each in (given, encoder)
    ]
    theirs, vectors = state.get('extra_tokens'), state.get('positions.extra')
    own, own_vectors = start.state.get('extra_tokens'), start.state.get('positions.extra')
    if theirs is not None and vectors is not None and own_vectors is None:
        theirs = theirs + vectors
    place = own_place = 0
    tokens, positions = [], []
    for (_, number), (words, own_number) in zip(*kinds, strict=True):
        fits = bool(number) and number == own_number
        if own_number and own is not None:
            rows, own_rows = slice(place, place + number), slice(own_place, own_place + own_number)
            tokens.append(theirs[:, rows] if fits and theirs is not None else own[:, own_rows])
            if own_vectors is not None:
                taken = torch.zeros_like(tokens[-1][0]) if vectors is None else vectors[rows]
                positions.append(taken if fits else own_vectors[own_rows])
        if own_number or number:
            (start.loaded if fits else start.anew if own_number else start.left_out).append(words)
        if number and own_number and not fits:
            start.left_out.append(f'{number} of them')
        place, own_place = place + number, own_place + own_number
    if own is not None:
        kept = [value.to('meta') if own.is_meta else value for value in tokens]
        start.state['extra_tokens'] = torch.cat(kept, dim=1)
    if own_vectors is not None:
        kept = [value.to('meta') if own_vectors.is_meta else value for value in positions]
        start.state['positions.extra'] = torch.cat(kept)
