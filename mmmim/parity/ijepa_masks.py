"""The masks of a recorded I-JEPA run: recorded, and drawn again from the seeds that its JSON sidecar names."""

import ast
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmmim.datasets.masking import MultiBlockMasking
from mmmim.datasets.masking.multi_block import block_sizes
from mmmim.structures import PatchMask
from mmmim.utils import InputError

from .report import Fixture

#: Settings of the released configs, by the names of a recording.
RELEASED: dict[str, Any] = {
    'enc_mask_scale': (0.85, 1.0),
    'pred_mask_scale': (0.15, 0.2),
    'aspect_ratio': (0.75, 1.5),
    'min_keep': 10,
    'allow_overlap': False,
}
_RANGE = r' \(([\d.]+), ?([\d.]+)\)'


def masking_of(settings: Mapping[str, Any]) -> MultiBlockMasking:
    """The masking strategy of settings by the names of a recording: those of :data:`RELEASED`, ``nenc`` and ``npred``.

    Raises:
        InputError: One of them is missing.
    """
    if missing := [key for key in (*RELEASED, 'nenc', 'npred') if key not in settings]:
        raise InputError(f'The JSON sidecar lacks {", ".join(missing)}, settings of the masks.')
    return MultiBlockMasking(
        num_targets=settings['npred'],
        target_scale=tuple(settings['pred_mask_scale']),
        target_aspect=tuple(settings['aspect_ratio']),
        num_contexts=settings['nenc'],
        context_scale=tuple(settings['enc_mask_scale']),
        min_keep=settings['min_keep'],
        allow_overlap=settings['allow_overlap'],
    )


def doc(fixture: Fixture, name: str) -> str:
    """What the JSON sidecar says of an array.

    Raises:
        InputError: Nothing.
    """
    entry = fixture.setting('arrays').get(name)
    if not isinstance(entry, dict) or not isinstance(entry.get('doc'), str):
        raise InputError(f'The JSON sidecar lacks arrays[{name!r}].doc, which says how {name} was made.')
    return entry['doc']


def of_doc(fixture: Fixture, name: str, pattern: str) -> tuple[str, ...]:
    """What a pattern finds in the description of an array.

    Raises:
        InputError: It is not there.
    """
    match = re.search(pattern, doc(fixture, name))
    if match is None:
        raise InputError(f'The JSON sidecar does not say of {name} what matches {pattern!r}: {doc(fixture, name)!r}.')
    return match.groups()


def recorded_mask(fixture: Fixture, prefix: str, num_images: int) -> PatchMask:
    """Recorded masks: of the batch (prefix '') or of a step of the trajectory ('traj.0.').

    Raises:
        InputError: Arrays are missing, or no indices of as many patches for every image.
    """
    grid = fixture.setting('config.grid')

    def stack(kind: str, count: int) -> Tensor:
        names = [f'{prefix}masks_{kind}.{i}' for i in range(count)]
        arrays = [fixture.array(name) for name in names]
        for name, array in zip(names, arrays, strict=True):
            if array.ndim != 2 or len(array) != num_images or array.shape != arrays[0].shape:
                raise InputError(f'{name} has the shape {array.shape}: as many indices for each of {num_images}.')
            if array.min(initial=0) < 0 or array.max(initial=0) >= grid**2:
                raise InputError(f'{name} has indices outside of the {grid} x {grid} grid.')
        return torch.stack([torch.from_numpy(array).long() for array in arrays], dim=1)

    contexts = fixture.setting('config.nenc')
    return PatchMask(
        visible=stack('enc', contexts).flatten(0, 1),
        predict=stack('pred', fixture.setting('config.npred')).repeat_interleave(contexts, 0),
        image_index=torch.arange(num_images).repeat_interleave(contexts),
        grid=(grid, grid),
    )


def redraw(fixture: Fixture, name: str, masking: MultiBlockMasking, grid: tuple[int, int]) -> PatchMask:
    """Masks drawn as those of an array of contexts were, ``[..., B, V]``: from the seeds in its description."""
    (call,) = of_doc(fixture, name, r'collator call (\d+)')
    (seed,) = of_doc(fixture, name, r'manual_seed\((\d+)\)')
    sizes, places = (torch.Generator().manual_seed(int(number)) for number in (call, seed))
    return masking.draw(fixture.array(name).shape[-2], grid, sizes, places)


def as_recorded(mask: PatchMask, prefix: str, contexts: int) -> dict[str, Tensor]:
    """Masks as arrays per context and per target block, ``[B, V]`` and ``[B, M]``."""
    arrays = {f'{prefix}masks_enc.{k}': mask.visible[k::contexts] for k in range(contexts)}
    targets = mask.predict[::contexts].unbind(1)
    return arrays | {f'{prefix}masks_pred.{t}': target for t, target in enumerate(targets)}


def draws(fixture: Fixture) -> dict[str, Any]:
    """Masks of settings of their own, without a model: ``draw.<setting>.<call>.enc``, ``.pred`` and ``.sizes``."""
    computed: dict[str, Any] = {}
    for setting in {name.split('.')[0] for name in fixture.group('draw.')}:
        prefix = f'draw.{setting}.'
        arrays = fixture.group(prefix)
        calls = [name.removesuffix('.enc') for name in arrays if name.endswith('.enc')]
        if not calls:
            raise InputError(f'The recorded run has {prefix}* and no {prefix}0.enc.')
        first = fixture.array(f'{prefix}{calls[0]}.enc')
        about = ' '.join(doc(fixture, f'{prefix}{name}') for name in arrays)
        counts = {
            'nenc': len(first) if first.ndim == 3 else 1,
            'npred': len(fixture.array(f'{prefix}{calls[0]}.pred')),
        }
        masking, side = masking_of(RELEASED | _settings(about) | counts), _grid_side(prefix, about)
        for call in calls:
            mask = redraw(fixture, f'{prefix}{call}.enc', masking, (side, side))
            context = mask.visible.unflatten(0, (-1, counts['nenc'])).transpose(0, 1)
            computed[f'{prefix}{call}.enc'] = context if first.ndim == 3 else context[0]
            computed[f'{prefix}{call}.pred'] = mask.predict[:: counts['nenc']].transpose(0, 1)
        if 'sizes' in arrays:
            computed[f'{prefix}sizes'] = _sizes(masking, side, len(arrays['sizes']))
    return computed


def _settings(about: str) -> dict[str, Any]:
    """Settings that a description names, by the names of a recording."""
    found: dict[str, Any] = {}
    if match := re.search(r'\{[^}]*\}', about):
        found |= ast.literal_eval(match[0])
    if match := re.search(r'min_keep (\d+)', about):
        found['min_keep'] = int(match[1])
    names = {'pred_mask_scale': 'target scale', 'aspect_ratio': 'aspect', 'enc_mask_scale': 'context scale'}
    for key, name in names.items():
        if match := re.search(name + _RANGE, about):
            found[key] = tuple(map(float, match.groups()))
    return found


def _grid_side(prefix: str, about: str) -> int:
    if match := re.search(r'grid (\d+)', about):
        return int(match[1])
    if match := re.search(r'img (\d+) patch (\d+)', about):
        return int(match[1]) // int(match[2])
    raise InputError(f'The JSON sidecar does not say of {prefix}* which grid: "grid 14", or "img 224 patch 16".')


def _sizes(masking: MultiBlockMasking, side: int, calls: int) -> np.ndarray:
    """Rows and columns of target and of context blocks, of the first calls: ``[calls, 4]``."""
    uniform = torch.stack([torch.rand(2, generator=torch.Generator().manual_seed(call)) for call in range(calls)])
    sizes = [
        block_sizes((side, side), (side - 1, side - 1), *masking.ranges[kind], number.expand(2, -1))
        for kind, number in zip(('target', 'context'), uniform.double().T, strict=True)
    ]
    return torch.cat(sizes).T.numpy()
