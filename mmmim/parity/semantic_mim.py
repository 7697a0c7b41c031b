"""Replay of a recorded SemanticMIM run, of the BEiT or the MaskFeat flavour."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmmim.converters.semantic_mim import collect, convert_weights, flavour, model_config
from mmmim.models import MaskedImageModeling, PickPredicted
from mmmim.registry import MODELS
from mmmim.structures import PatchMask
from mmmim.utils import InputError
from mmmim.utils.checkpoint import load_state_dict

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
    result: dict[str, Any] = dict(arrays)
    if 'grad_norm' in result:
        norms, names = result.pop('grad_norm'), fixture.setting('param_names')
        if norms.shape != (len(names),):
            raise InputError(f'grad_norm has the shape {norms.shape}, and param_names has {len(names)} names.')
        result |= {f'grad_norm/{name}': value for name, value in zip(names, norms, strict=True)}
    return result


class _RecordedTokens(nn.Module):
    """A tokenizer that gives what the recorded one has given."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.num_tokens = logits.shape[1]
        self.tokens = logits.argmax(dim=1).flatten(1)

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        return self.tokens


def _weights(fixture: Fixture) -> dict[str, Tensor]:
    return convert_weights(
        {key: torch.from_numpy(value).float() for key, value in fixture.group('sd/').items()}, 'The recorded run'
    )


def _config(fixture: Fixture) -> dict[str, Any]:
    """The config of the model, whose tokenizer is a placeholder.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    weights = _weights(fixture)
    method = flavour(fixture.group('sd/'), 'The recorded run')
    if (kind := fixture.setting('kind')) != method:
        raise InputError(f'The JSON sidecar says kind={kind!r}, the recorded weights are {method!r}.')
    settings = fixture.setting('config')
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
        branch['target_generator']['tokenizer'].update(
            type='mmmim.KMeansTokenizer', patch_size=backbone['patch_size'], untrained=True
        )
    if wrong := {key: value for key, value in expected.items() if settings.get(key, value) != value}:
        raise InputError(f'The JSON sidecar says otherwise than the recorded weights, which have {wrong}.')
    for part in (backbone, branch['neck']):
        part['drop_path_rate'] = 0.0
    return config


def build_model(fixture: Fixture) -> MaskedImageModeling:
    """The model of the JSON sidecar with the recorded weights.

    Raises:
        InputError: Weights and sidecar disagree.
    """
    model = MODELS.build(_config(fixture))
    generator = model.branches['semantic'].target_generator
    if hasattr(generator, 'tokenizer'):
        generator.tokenizer = _RecordedTokens(torch.from_numpy(fixture.array('target_logits')))
    load_state_dict(model, _weights(fixture), 'the recorded run')
    return model.train()


def _images(fixture: Fixture, model: MaskedImageModeling) -> Tensor:
    """Normalised images ``[B, 3, H, W]``."""
    if 'images_uint8' in fixture.arrays:
        return model.data_preprocessor.normalize(torch.from_numpy(fixture.array('images_uint8')))
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


@contextmanager
def _calls(modules: Sequence[nn.Module]) -> Iterator[list[tuple[tuple, Any]]]:
    """The arguments and the result of every call of the modules, in order."""
    calls: list[tuple[tuple, Any]] = []
    hooks = [m.register_forward_hook(lambda _, args, output: calls.append((args, output))) for m in modules]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _forward(model: MaskedImageModeling, images: Tensor, mask: PatchMask, prediction: str) -> dict[str, Any]:
    """Tokens between the blocks, predictions and loss of one batch, gradients left in the parameters."""
    neck = model.branches['semantic'].neck
    targets = model.targets(images, mask, differentiable=False)
    with _calls(model.backbone.blocks) as own, _calls(neck.blocks) as cross, _calls([neck]) as whole:
        loss = model.loss(images, mask, targets)['loss_semantic']
    loss.backward()
    computed = {
        'mask': torch.zeros(len(images), mask.grid[0] * mask.grid[1], dtype=torch.int32)
        .scatter(1, mask.flat_predict(), 1)
        .unflatten(1, mask.grid),
        'tokens_in': own[0][0][0],
        'mask_in': cross[0][0][0],
        'feat_mask': neck.norm(cross[-1][1]),
        prediction: whole[0][1].patches,
        'loss': loss,
    }
    for i, (_, output) in enumerate(own):
        computed[f'self_out/{i}'] = output
    for i, ((queries, _, proxies, _), output) in enumerate(cross):
        computed[f'cross_kv/{i}'] = torch.cat([proxies, queries], dim=1)
        computed[f'cross_out/{i}'] = output
    return computed


def _gradients(fixture: Fixture, model: MaskedImageModeling) -> dict[str, Any]:
    """Norms of the gradients of all recorded parameters, -1 for none, and some whole ones."""
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    computed: dict[str, Any] = {}
    if 'grad_norm' in fixture.arrays:
        found = [collect(f'backbone.{name}', gradients) for name in fixture.setting('param_names')]
        computed['grad_norm'] = np.array([-1.0 if g is None else g.double().norm().item() for g in found])
    for name in fixture.group('grad/'):
        if (gradient := collect(f'backbone.{name}', gradients)) is not None:
            computed[f'grad/{name}'] = gradient
    return computed


@torch.no_grad()
def _baseline(fixture: Fixture, model: MaskedImageModeling, images: Tensor, mask: PatchMask) -> Tensor:
    """Features of the predicted patches where the same weights see mask tokens in the encoder."""
    encoder = MODELS.build({**_config(fixture)['backbone'], 'fused': True, 'final_norm': True})
    neck = model.branches['semantic'].neck
    state = model.backbone.state_dict() | {'mask_token': neck.mask_token}
    state |= {f'norm.{key}': value for key, value in neck.norm.state_dict().items()}
    load_state_dict(encoder, state, 'the recorded run')
    return PickPredicted(encoder.embed_dim)(encoder(images, mask), mask).patches


@torch.no_grad()
def _evaluation(model: MaskedImageModeling, images: Tensor) -> dict[str, Any]:
    """States of whole images, and the attention of the last block."""
    blocks = model.backbone.blocks
    model.eval()
    with _calls(blocks) as calls:
        model.backbone(images)
    model.train()
    (tokens, *_), output = calls[-1]
    return {f'eval/layer{i}': result for i, (_, result) in enumerate(calls)} | {
        'eval/final_normed': model.branches['semantic'].neck.norm(output),
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
    images = _images(fixture, model)
    mask = _mask(fixture, images, model.backbone.patch_size)
    prediction = 'logits' if fixture.setting('kind') == 'beit' else 'pred'
    computed = _forward(model, images, mask, prediction) | _gradients(fixture, model) | _start(fixture)
    computed['baseline/feat_mask'] = _baseline(fixture, model, images, mask)
    if 'hog' in fixture.arrays:
        computed['hog'] = model.branches['semantic'].target_generator.patches(images)
    if fixture.group('eval/'):
        computed |= _evaluation(model, images)
    return {
        name: value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
        for name, value in computed.items()
    }
