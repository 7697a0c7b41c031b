"""Replay of a recorded SemanticMIM run, of the BEiT or the MaskFeat flavour."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmim.converters.semantic_mim import NECK, collect, convert_weights, flavour, model_config
from mmmim.models import MaskedImageModeling, Tokenizer
from mmmim.registry import MODELS
from mmmim.structures import PatchMask
from mmmim.utils import InputError

from . import training
from .report import Fixture

#: Weights whose standard deviation per block is recorded, as (blocks, weight) of the layout.
_INITIAL = {
    'init/layers_proj_std': ('backbone.layers', 'attn.proj.weight'),
    'init/extra_layers_proj_std': ('backbone.extra_layers', 'attn.proj.weight'),
    'init/fc1_std': ('backbone.layers', 'ffn.layers.0.0.weight'),
}
#: Initialisations whose mean is compared.
_DRAWS = 4


def is_input(name: str) -> bool:
    """Whether a recorded array is read by the replay."""
    return name in ('images', 'images_uint8', 'target_logits') or name.startswith(('sd/', 'draw/'))


def tolerance(name: str) -> float | None:
    """Tolerance of a quantity in fp32 on a CPU.

    That of standard deviations of random weights is one of statistics, see :func:`floor`.
    """
    return 0.1 if name.startswith('init/') else 1e-5


def floor(fixture: Fixture) -> Callable[[str], float]:
    """The least scale of errors.

    The recorded standard deviations are of other random numbers: of ``n`` weights they have a standard error of
    ``1 / sqrt(2 n)`` of themselves, and five of these must be within the tolerance.
    """

    def least(name: str) -> float:
        if name not in _INITIAL:
            return 0.0
        blocks, weight = _INITIAL[name]
        error = 5 / math.sqrt(2 * fixture.array(f'sd/{blocks}.0.{weight}').size)
        return float(fixture.array(name).max(initial=0.0)) * error / 0.1

    return least


def split(fixture: Fixture, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays with a value per parameter, as a quantity per parameter."""
    return training.split_by_name(fixture, arrays, {'grad_norm': 'param_names'})


class _RecordedTokens(Tokenizer):
    """A tokenizer that gives what the recorded one has given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.num_tokens = logits.shape[1]
        self.tokens = logits.argmax(dim=1).flatten(1)

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.tokens


def _weights(fixture: Fixture) -> dict[str, Tensor]:
    return convert_weights(training.recorded_weights(fixture, 'sd/'), 'The recorded run')


def _config(fixture: Fixture) -> dict[str, Any]:
    """The config of the model, whose tokenizer gives recorded tokens.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    weights = _weights(fixture)
    method = flavour(fixture.group('sd/'), 'The recorded run')
    if (kind := fixture.setting('kind')) != method:
        raise InputError(f'The JSON sidecar says kind={kind!r}, the recorded weights are {method!r}.')
    config = model_config(weights, method, 'The recorded run', fixture.setting('config.heads'))
    backbone, branch = config['backbone'], config['branches']['semantic']
    expected = {
        'img': backbone['img_size'],
        'patch': backbone['patch_size'],
        'dim': backbone['embed_dim'],
        'depth': backbone['depth'],
        'proxy': backbone['num_cls_tokens'],
    }
    if method == 'beit':
        expected['vocab'] = branch['neck']['out_dim']
    training.check_settings(fixture.setting('config'), expected)
    for part in (backbone, branch['neck']):
        part['drop_path_rate'] = 0.0
    normalised = training.images_as_they_are(backbone['in_channels'])
    if method == 'beit':
        tokenizer = {'type': _RecordedTokens, 'logits': torch.from_numpy(fixture.array('target_logits'))}
        branch['target_generator'].update(tokenizer=tokenizer, mean=normalised['mean'], std=normalised['std'])
    rgb = {'type': 'mmmim.MIMDataPreprocessor', 'bgr_to_rgb': False}
    config['data_preprocessor'] = rgb if 'images_uint8' in fixture.arrays else normalised
    return config


def build_model(fixture: Fixture) -> MaskedImageModeling:
    """The model of the JSON sidecar with the recorded weights.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    return training.recorded_model(_config(fixture), _weights(fixture))


def _images(fixture: Fixture) -> Tensor:
    """Images ``[B, 3, H, W]`` as the model gets them: normalised, or uint8."""
    if 'images_uint8' in fixture.arrays:
        return torch.from_numpy(fixture.array('images_uint8'))
    return torch.from_numpy(fixture.array('images')).float()


def _mask(fixture: Fixture, images: Tensor, patch_size: int) -> PatchMask:
    """Masks from recorded permutations: the first patches are masked."""
    if images.ndim != 4 or images.shape[-1] != images.shape[-2] or images.shape[-1] % patch_size:
        raise InputError(f'images has the shape {tuple(images.shape)}: squares of whole patches were expected.')
    side = images.shape[-1] // patch_size
    order = torch.from_numpy(fixture.array('draw/permutation')).long()
    if order.shape != (len(images), side**2) or not order.sort(dim=1).values.eq(torch.arange(side**2)).all():
        raise InputError(f'draw/permutation must hold a permutation of {side**2} patches for each image.')
    masked = math.ceil(side**2 * fixture.setting('config.mask_ratio'))
    if not 0 < masked < side**2:
        raise InputError(f'mask_ratio masks {masked} of {side**2} patches: some must be visible, some predicted.')
    return PatchMask(
        visible=order[:, masked:].sort(dim=1).values,
        predict=order[:, :masked].sort(dim=1).values.unsqueeze(1),
        image_index=torch.arange(len(images)),
        grid=(side, side),
    )


def _step(fixture: Fixture, model: MaskedImageModeling, images: Tensor, mask: PatchMask) -> dict[str, Any]:
    """Tokens between the blocks, predictions, loss and gradients of one training step."""
    depth = model.backbone.depth
    own, cross = ([f'{root}.blocks.{i}' for i in range(depth)] for root in ('backbone', NECK))
    step = training.step(model, images, mask, [*own, *cross, f'{NECK}.norm', NECK])
    calls = {place: calls[0] for place, calls in step.calls.items()}
    prediction = 'logits' if fixture.setting('kind') == 'beit' else 'pred'
    computed: dict[str, Any] = {
        'mask': torch.zeros(len(images), mask.grid[0] * mask.grid[1], dtype=torch.int32)
        .scatter(1, mask.flat_predict(), 1)
        .unflatten(1, mask.grid),
        'tokens_in': calls[own[0]].args[0],
        'mask_in': calls[cross[0]].args[0],
        'feat_mask': calls[f'{NECK}.norm'].output,
        prediction: calls[NECK].output.patches,
        'loss': step.losses['loss_semantic'],
    }
    for i in range(depth):
        queries, _, proxies, _ = calls[cross[i]].args
        computed[f'self_out/{i}'] = calls[own[i]].output
        computed[f'cross_kv/{i}'] = torch.cat([proxies, queries], dim=1)
        computed[f'cross_out/{i}'] = calls[cross[i]].output
    if 'hog' in fixture.arrays:
        every = training.targets_of_all(model, images, mask, 'branches.semantic.target_generator')
        computed['hog'] = every.patches
    if 'grad_norm' in fixture.arrays:
        names = fixture.setting('param_names')
        computed['grad_norm'] = training.norms(names, step.gradients, _collect_of_backbone, -1.0)
    return computed | training.collected(fixture, 'grad/', step.gradients, _collect_of_backbone)


def _collect_of_backbone(name: str, values: Mapping[str, Tensor]) -> Tensor | None:
    """Gradients are recorded without the prefix of the layout."""
    return collect(f'backbone.{name}', values)


def _baseline(fixture: Fixture, images: Tensor, mask: PatchMask) -> Tensor:
    """Features of the predicted patches where the same weights see mask tokens in the encoder."""
    config, weights = _config(fixture), _weights(fixture)
    neck = config['branches']['semantic']['neck']
    config['backbone'] |= {'fused': True, 'final_norm': True}
    pick = {'type': 'mmmim.PickPredicted', 'context_dim': neck['context_dim'], 'out_dim': neck['out_dim']}
    config['branches']['semantic']['neck'] = pick
    kept = {name: value for name, value in weights.items() if name.startswith(('backbone.', f'{NECK}.proj.'))}
    kept |= {f'backbone.norm.{kind}': weights[f'{NECK}.norm.{kind}'] for kind in ('weight', 'bias')}
    kept['backbone.mask_token'] = weights[f'{NECK}.mask_token']
    last = f'{NECK}.proj'
    return training.step(training.recorded_model(config, kept), images, mask, [last]).calls[last][0].args[0]


@torch.no_grad()
def _evaluation(model: MaskedImageModeling, images: Tensor) -> dict[str, Any]:
    """States of whole images, and the attention of the last block."""
    blocks = model.backbone.blocks
    names = [f'backbone.blocks.{i}' for i in range(len(blocks))]
    with training.listen(model.eval(), names) as calls:
        model.backbone(model.data_preprocessor({'inputs': images})['inputs'])
    model.train()
    tokens, *_ = calls[names[-1]][0].args
    return {f'eval/layer{i}': calls[name][0].output for i, name in enumerate(names)} | {
        'eval/final_normed': model.get_submodule(f'{NECK}.norm')(calls[names[-1]][0].output),
        'eval/attn_last': blocks[-1].attn.weights(blocks[-1].norm1(tokens)),
    }


def _start(fixture: Fixture) -> dict[str, Any]:
    """Standard deviations of the weights of a model before it is trained, means over a few models."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        states = [MODELS.build(_config(fixture)).state_dict() for _ in range(_DRAWS)]

    def deviation(key: str) -> float:
        return float(np.mean([weight.std() for state in states if (weight := collect(key, state)) is not None]))

    return {
        name: np.array([deviation(f'{blocks}.{i}.{weight}') for i in range(len(fixture.array(name)))])
        for name, (blocks, weight) in _INITIAL.items()
        if name in fixture.arrays
    }


def replay(fixture: Fixture) -> dict[str, np.ndarray]:
    """Compute every quantity of a recorded SemanticMIM run.

    Args:
        fixture: Any run of this layout: other sizes, depths, widths, mask ratios and numbers of proxies.

    Returns:
        Arrays by the names of the recording.

    Raises:
        InputError: The recording is incomplete or contradicts itself.
    """
    model = build_model(fixture)
    images = _images(fixture)
    mask = _mask(fixture, images, model.backbone.patch_size)
    computed = _step(fixture, model, images, mask) | _start(fixture)
    computed['baseline/feat_mask'] = _baseline(fixture, images, mask)
    if fixture.group('eval/'):
        computed |= _evaluation(model, images)
    return training.as_arrays(computed)
