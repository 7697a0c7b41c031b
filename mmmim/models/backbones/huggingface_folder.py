"""Folders of models of Hugging Face, as ``save_pretrained`` writes them: what is read of them, as plain data."""

import json
import math
from pathlib import Path
from typing import Any

from mmengine.logging import print_log

from mmmim.utils import InputError

from .huggingface_encoder import architecture_keys

#: Files of weights, the first that is there counts.
_WEIGHTS = ('model.safetensors', 'pytorch_model.bin')
#: Larger than any config.
_LIMIT = 1 << 20


def is_huggingface_folder(path: str | Path) -> bool:
    """Whether a path is that of a folder with a ``config.json``."""
    return (Path(path).expanduser() / 'config.json').is_file()


def read_folder(path: str | Path) -> dict[str, Any]:
    """The config of :class:`mmmim.HuggingFaceEncoder` for a folder, without weights: it needs the folder no more.

    Read are what ``config.json`` says of the architecture, and mean and std of ``preprocessor_config.json``, where
    there is one. Both are data: code that they name (``auto_map``) is neither read nor run, and nothing is downloaded.

    Args:
        path: The folder; never a name of a repository.

    Returns:
        ``type``, ``name``, options, and ``mean`` and ``std`` in the 0-255 range.

    Raises:
        InputError: There is no such folder, a file of it is damaged, or the model is no plain Vision Transformer.
    """
    folder = Path(path).expanduser()
    if not is_huggingface_folder(folder):
        raise InputError(
            f'{path} is no folder with a config.json, and nothing is downloaded: give the folder of a model of Hugging '
            'Face that lies on this machine.'
        )
    config = _read(folder / 'config.json')
    name = config.get('model_type')
    if not isinstance(name, str):
        raise InputError(f'{folder / "config.json"} has no model_type: it is no config of a model of transformers.')
    keys = architecture_keys(name)
    return {
        'type': 'mmmim.HuggingFaceEncoder',
        'name': name,
        **{key: value for key, value in config.items() if key in keys},
        **_statistics(folder / 'preprocessor_config.json'),
    }


def weights_file(path: str | Path) -> Path:
    """The file of weights in a folder.

    Raises:
        InputError: There is none, or there are several parts.
    """
    folder = Path(path).expanduser()
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    if any((folder / f'{name}.index.json').is_file() for name in _WEIGHTS):
        raise InputError(
            f'{folder} holds weights in several files: save them as one with transformers, '
            "save_pretrained(FOLDER, max_shard_size='100GB')."
        )
    raise InputError(f'{folder} holds no {" and no ".join(_WEIGHTS)}: copy the file of weights there.')


def _read(file: Path) -> dict[str, Any]:
    """A JSON file with a dict."""
    try:
        if not file.is_file() or file.stat().st_size > _LIMIT:
            raise ValueError('it is no regular file of less than a megabyte')
        content = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f'{file} cannot be read: {error}') from error
    if not isinstance(content, dict):
        raise InputError(f'{file} holds a {type(content).__name__}, not the config of a model.')
    return content


def _statistics(file: Path) -> dict[str, list[float]]:
    """Mean and std by which images are normalised, in the 0-255 range; nothing where the file is missing."""
    if not file.is_file():
        print_log(f"There is no {file}: mean and std are ImageNet's.", logger='current')
        return {}
    content = _read(file)
    factor = content.get('rescale_factor', 1 / 255) if content.get('do_rescale', True) else 1
    found = {}
    for name, key, none in (('mean', 'image_mean', 0.0), ('std', 'image_std', 1.0)):
        values: Any = content.get(key) if content.get('do_normalize', True) else none
        values = [values] * 3 if isinstance(values, int | float) else values
        numbers = (
            isinstance(values, list) and values and all(isinstance(each, int | float) for each in (factor, *values))
        )
        if not numbers or not all(map(math.isfinite, (factor, *values))) or factor <= 0:
            raise InputError(f'{file}: {key}={str(values)[:100]} with rescale_factor={factor!r} are no finite numbers.')
        found[name] = [round(value / factor, 4) for value in values]
    return found
