"""Models by name."""

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mmengine import Config

from mmmim.checkpoints import trusting
from mmmim.checkpoints.pretrained import RANDOM
from mmmim.config.resources import config_names, find_config
from mmmim.features.extractor import FeatureExtractor
from mmmim.models.backbones.huggingface_folder import is_huggingface_folder, read_folder, weights_file
from mmmim.utils import InputError

#: What ``--encoder`` calls other libraries.
LIBRARIES = {
    'timm': 'mmmim.TimmEncoder',
    'mmpretrain': 'mmmim.MMPretrainEncoder',
    'huggingface': 'mmmim.HuggingFaceEncoder',
}
#: How messages say what ``--encoder`` takes.
ENCODER_NAMES = 'timm:NAME, mmpretrain:NAME or huggingface:FOLDER'


def in_full(source: str | Path, encoder: str | None = None) -> tuple[str, str | None]:
    """What ``--pretrained`` and ``--encoder`` name together.

    A folder of Hugging Face as ``source`` stands for the file of weights in it and, without an ``encoder``, for the
    model that its ``config.json`` describes.

    Args:
        source: What ``--pretrained`` names.
        encoder: What ``--encoder`` names; None for nothing.

    Returns:
        Both, the source no folder of Hugging Face any more.

    Raises:
        InputError: The folder holds no file of weights, or several parts.
    """
    if not is_huggingface_folder(source):
        return str(source), encoder
    return str(weights_file(source)), encoder or f'huggingface:{source}'


def encoder_config(name: str) -> dict[str, Any]:
    """The config of a model of another library, by what ``--encoder`` calls it.

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
    return {'type': LIBRARIES[library], 'name': model}


def list_models(pattern: str = '*') -> list[str]:
    """Names of the models that have a config, e.g. ``capi/vitl14``; installed packages bring the configs along.

    Args:
        pattern: Shell pattern, e.g. ``capi/*``.

    Returns:
        Sorted names.
    """
    return [name for name in config_names() if not name.startswith('eval/') and fnmatch(name, pattern)]


def get_model(
    source: str | Path,
    weights: str = 'auto',
    device: str = 'cpu',
    trust_checkpoint: bool = False,
    encoder: str | None = None,
) -> FeatureExtractor:
    """A frozen encoder with its features.

    Args:
        source: A checkpoint (``*.pth``: training checkpoint of mmmim or converted file), or the name of a config
            (see :func:`list_models`) or a config file, for a random initialisation; or the folder of a model of Hugging
            Face. With an ``encoder``, the file of its weights, or 'random'.
        weights: Weights of a checkpoint to take: 'ema' (the teacher), 'student', or 'auto': the teacher's where there
            are any.
        device: Where to put it.
        trust_checkpoint: Whether to read files that hold pickled Python objects too, which can run any code.
        encoder: A model of another library, 'timm:NAME', 'mmpretrain:NAME' or 'huggingface:FOLDER'; None for one of
            mmmim.

    Returns:
        The extractor.

    Raises:
        InputError: There is no such file or model, or the weights do not fit.
    """
    source, encoder = in_full(source, encoder)
    path = Path(source)
    if encoder is not None:
        if weights != 'auto':
            raise InputError(f'{source} is of another library and holds one set of weights: leave weights out.')
        config = {**encoder_config(encoder), 'weights': None if str(source) == RANDOM else str(source)}
        with trusting(trust_checkpoint):
            return FeatureExtractor({'backbone': config}, source=str(source)).to(device)
    if path.suffix in ('.pth', '.pt'):
        return FeatureExtractor.from_checkpoint(path, weights, trust_checkpoint).to(device)
    return FeatureExtractor(model_config(source), source=str(source)).to(device)


def model_config(source: str | Path) -> dict[str, Any]:
    """The config of a model, by its name (see :func:`list_models`) or the config file.

    Raises:
        InputError: There is no such model or file.
    """
    path = Path(source)
    config = path if path.is_file() else find_config(str(source))
    if config is None or config.suffix != '.py':
        raise InputError(
            f'{source} is no checkpoint (*.pth), no config file and no model name: mmmim.list_models() has '
            f'{", ".join(list_models()) or "no names here"}.'
        )
    return Config.fromfile(config).model.to_dict()
