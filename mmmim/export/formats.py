"""The formats that an encoder can be exported to, by name.

Importing this module is cheap: command lines read it before they import torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from mmmim.utils import InputError


@dataclass(frozen=True)
class Export:
    """What an exporter is given.

    Attributes:
        extractor: A :class:`mmmim.FeatureExtractor` with the encoder to export.
        out: File or folder to write.
        source: Name of the file that the weights come from, for pages beside the export.
    """

    extractor: Any
    out: Path
    source: str


@dataclass(frozen=True)
class Format:
    """A format: a function ``MODULE.FUNCTION(export) -> str``, which writes and says how the result is used.

    Attributes:
        module: Module of this package.
        function: Name of the function.
        words: What it writes, a phrase for help and messages.
        ending: How the name of the file must end; None for a folder.
    """

    module: str
    function: str
    words: str
    ending: str | None = None


#: All formats, by what ``--to`` calls them.
FORMATS: Mapping[str, Format] = {
    'backbone': Format('own', 'write_backbone', 'the encoder alone, a checkpoint of mmmim', '.pth'),
    'safetensors': Format(
        'own', 'write_safetensors_file', 'encoder and predictor, a file of mmmim without pickle', '.safetensors'
    ),
    'timm': Format('timm_folder', 'write_timm', 'a folder for timm.create_model'),
    'huggingface': Format('huggingface_folder', 'write_huggingface', 'a folder for transformers.AutoModel'),
    'onnx': Format('graphs', 'write_onnx', 'a graph for ONNX runtimes', '.onnx'),
    'torch-export': Format('graphs', 'write_program', 'a program for torch.export.load', '.pt2'),
}


def export(extractor: Any, out: str | Path, to: str, source: str = 'an encoder of mmmim') -> str:
    """Export an encoder.

    Args:
        extractor: A :class:`mmmim.FeatureExtractor`, as :func:`mmmim.get_model` gives it.
        out: File or folder to write. A file is replaced; a folder must be empty or new.
        to: Name of the format, one of :data:`FORMATS`.
        source: Name of the file that the weights come from.

    Returns:
        How the result is used, for people.

    Raises:
        InputError: There is no such format, the encoder has no counterpart in it, or the place is taken.
    """
    if to not in FORMATS:
        raise InputError(f'--to {to}: there are {", ".join(FORMATS)}.')
    chosen, out = FORMATS[to], Path(out)
    if chosen.ending is not None and out.suffix != chosen.ending:
        raise InputError(f'--to {to} writes a file *{chosen.ending}, {chosen.words}: got {out}.')
    if chosen.ending is None and out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f'--to {to} writes a folder, {chosen.words}: {out} is there already and not empty.')
    function = getattr(import_module(f'{__package__}.{chosen.module}'), chosen.function)
    return function(Export(extractor, out, source))
