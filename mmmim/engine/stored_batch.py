"""Batches of data loaders as tensors and plain data, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from mmengine.structures import BaseDataElement, InstanceData, LabelData, PixelData
from torch import Tensor

from mmmim.structures import PatchMask
from mmmim.utils import InputError
from mmmim.utils.plain import to_plain

_KIND = '__kind__'


def pack(value: Any) -> Any:
    """A batch as checkpoints can hold it; what is neither data nor of a known kind is None.

    Known are nested dicts and lists of tensors and numbers, :class:`PatchMask`, and data samples of mmengine.
    """
    if isinstance(value, PatchMask):
        return {_KIND: 'PatchMask', **{f.name: pack(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, BaseDataElement):
        return {
            _KIND: type(value).__name__,
            'metainfo': pack(dict(value.metainfo_items())),
            'data': {key: pack(item) for key, item in value.items()},
        }
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        return {str(key): pack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [pack(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    return to_plain(value)


def unpack(value: Any) -> Any:
    """The batch that :func:`pack` made plain.

    Raises:
        InputError: An object of it is of no known kind.
    """
    if isinstance(value, dict) and _KIND in value:
        kind = value[_KIND]
        if kind == 'PatchMask':
            return PatchMask(**{f.name: unpack(value.get(f.name)) for f in fields(PatchMask)})
        sample = _data_element(kind)(metainfo=unpack(value['metainfo']))
        sample.set_data({key: unpack(item) for key, item in value['data'].items()})
        return sample
    if isinstance(value, dict):
        return {key: unpack(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [unpack(item) for item in value]
        return tuple(items) if isinstance(value, tuple) else items
    return value


def _data_element(kind: Any) -> type[BaseDataElement]:
    known: dict[str, type[BaseDataElement]] = {
        each.__name__: each for each in (BaseDataElement, InstanceData, LabelData, PixelData)
    }
    if kind == 'DataSample':
        from mmpretrain.structures import DataSample

        return DataSample
    if kind == 'SegDataSample':
        from mmseg.structures import SegDataSample

        return SegDataSample
    if not isinstance(kind, str) or kind not in known:
        raise InputError(f'The batch holds a {kind!r}, which is no known kind of data sample.')
    return known[kind]


def image_paths(batch: Any, number: int) -> list[str]:
    """Files of the images of a batch, '' where that is not known."""
    samples = batch.get('data_samples') if isinstance(batch, Mapping) else None
    paths = [str(getattr(sample, 'img_path', '')) for sample in samples] if isinstance(samples, list | tuple) else []
    return (paths + [''] * number)[:number]


def images_of(batch: Any) -> list[Tensor]:
    """The images of a batch, ``[C, H, W]`` each; none where there are no tensors of them."""
    inputs = batch.get('inputs') if isinstance(batch, Mapping) else None
    return [image for image in inputs if isinstance(image, Tensor)] if inputs is not None else []
