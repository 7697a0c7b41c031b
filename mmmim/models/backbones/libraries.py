"""Models of other libraries, by what users call them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmmim.utils import InputError

from .hierarchical import is_hierarchical
from .huggingface_folder import is_huggingface_folder, read_folder, weights_file

#: What names of models begin with.
LIBRARIES = {
    'timm': 'mmmim.TimmEncoder',
    'mmpretrain': 'mmmim.MMPretrainEncoder',
    'huggingface': 'mmmim.HuggingFaceEncoder',
}
#: How messages say what ``--encoder`` takes.
ENCODER_NAMES = 'timm:NAME, mmpretrain:NAME or huggingface:FOLDER'
#: How messages say what stands for such a model with its weights, wherever a checkpoint is asked for.
ENCODER_FILES = 'timm:NAME=FILE, mmpretrain:NAME=FILE or huggingface:FOLDER'


def encoder_config(name: str) -> dict[str, Any]:
    """The config of a model of another library, by its name.

    Args:
        name: 'timm:NAME', 'mmpretrain:NAME' or 'huggingface:FOLDER', a folder with the ``config.json`` of the model.

    Raises:
        InputError: The library is another one, or the folder is none of a model that can be used.
    """
    library, _, model = name.partition(':')
    if library not in LIBRARIES or not model:
        raise InputError(f'--encoder {name}: write {ENCODER_NAMES}, a model there.')
    if library == 'huggingface':
        return read_folder(model)
    if is_hierarchical(name):
        return {'type': 'mmmim.HierarchicalEncoder', 'name': name}
    return {'type': LIBRARIES[library], 'name': model}


def split_source(source: str | Path) -> tuple[str, str] | None:
    """The model of another library and the file of its weights that one word of a user names.

    Args:
        source: 'timm:NAME=FILE' or 'mmpretrain:NAME=FILE'; 'huggingface:FOLDER', whose weights lie in the folder, or
            'huggingface:FOLDER=FILE'; FILE may be 'random'. The folder of a model of Hugging Face alone, too.

    Returns:
        Its name, which :func:`encoder_config` takes, and the file; None where the word names no such model.

    Raises:
        InputError: The file is missing in the word, or the folder has no weights.
    """
    if is_huggingface_folder(source):
        return f'huggingface:{source}', str(weights_file(source))
    library, _, model = str(source).partition(':')
    if library not in LIBRARIES or not model:
        return None
    if library == 'huggingface' and (is_huggingface_folder(model) or '=' not in model):
        read_folder(model)  # says what is wrong with it
        return str(source), str(weights_file(model))
    name, _, file = model.rpartition('=') if library == 'huggingface' else model.partition('=')
    if not name or not file:
        raise InputError(
            f'{source} names no weights, and nothing is downloaded: write {library}:{name or "NAME"}=FILE, a local '
            f'file of that library, or {library}:{name or "NAME"}=random.'
        )
    return f'{library}:{name}', file
