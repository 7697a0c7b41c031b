"""Encoders as graphs of operations: ONNX, and programs of torch.export."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from mmmim.models.backbones.wrapped import WrappedEncoder
from mmmim.utils import InputError
from mmmim.utils.atomic import write_atomically

from .formats import Export

#: The most patches along a side, and images, that an open size allows.
_MOST = 256


class NamedFeatures(nn.Module):
    """The features of an extractor as tensors.

    Args:
        extractor: A :class:`mmmim.FeatureExtractor`, whose features are given.
    """

    def __init__(self, extractor: nn.Module) -> None:
        super().__init__()
        self.extractor = extractor

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """From normalised images ``[B, C, H, W]`` to what :meth:`mmmim.features.Features.tensors` gives."""
        return self.extractor(images).tensors()


def write_program(export: Export) -> str:
    """Write a program of torch.export, which takes any number of images and, where the encoder does, any size."""
    program, sizes = exported(export)
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    write_atomically(export.out, lambda file: file.write(buffer.getvalue()))
    return f"torch.export.load('{export.out}').module()(images); {sizes}"


def write_onnx(export: Export) -> str:
    """Write a graph of ONNX, which takes any number of images and, where the encoder does, any size.

    Raises:
        InputError: A library is missing.
    """
    if missing := [name for name in ('onnx', 'onnxscript') if find_spec(name) is None]:
        raise InputError(f'--to onnx needs {" and ".join(missing)}: pip install {" ".join(missing)}')
    program, sizes = exported(export)
    model = NamedFeatures(export.extractor).eval()
    names = list(model(example(export)))
    made: Any = torch.onnx.export(
        program, input_names=['images'], output_names=names, dynamo=True, optimize=True, verbose=False
    )
    content = made.model_proto.SerializeToString()
    write_atomically(export.out, lambda file: file.write(content))
    return f"onnxruntime.InferenceSession('{export.out}'), outputs {', '.join(names)}; {sizes}"


def exported(export: Export) -> tuple[Any, str]:
    """The program of an encoder, and in words which sizes are open."""
    extractor = export.extractor
    model, images = NamedFeatures(extractor).eval(), example(export)
    batch = Dim('batch', min=1, max=_MOST)
    encoder = extractor.backbone
    if isinstance(encoder, WrappedEncoder) and encoder.no_graph:
        raise InputError(f'There is no graph of a {type(encoder.encoder).__name__}: {encoder.no_graph}.')
    if _of_one_size(encoder):
        sizes: dict[int, Any] = {0: batch}
        words = f'any number of images of {images.shape[2]} x {images.shape[3]} pixels'
    else:
        rows, columns = (Dim(name, min=2, max=_MOST) for name in ('rows', 'columns'))
        patch = extractor.patch_size
        sizes = {0: batch, 2: patch * rows, 3: patch * columns}
        words = f'any number of images, whose sides are multiples of {patch} pixels'
    return torch.export.export(model, (images,), dynamic_shapes={'images': sizes}), f'{words}, normalised'


def example(export: Export) -> Tensor:
    """Images to export with, in the precision of the weights; not square, so that sides stay apart."""
    extractor = export.extractor
    encoder = extractor.backbone
    fixed = _of_one_size(encoder)
    rows, columns = encoder.grid
    grid = (rows, columns) if fixed else (rows + 1, columns + 2)
    weight = next(encoder.parameters())
    size = (2, extractor.in_channels, *(side * extractor.patch_size for side in grid))
    return torch.zeros(size, dtype=weight.dtype, device=weight.device)


def _of_one_size(encoder: nn.Module) -> bool:
    """Whether a graph of an encoder is of one size of images: of positions, or of windows that divide its maps."""
    return isinstance(encoder, WrappedEncoder) and not (encoder.any_size and encoder.any_graph)
