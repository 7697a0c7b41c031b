"""Models by name."""

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mmengine import Config

from mmmim.checkpoints import trusting
from mmmim.checkpoints.pretrained import RANDOM
from mmmim.config.resources import config_names, find_config
from mmmim.features.extractor import FeatureExtractor
from mmmim.utils import InputError

#: How files of weights end; of safetensors, those that mmmim has written.
CHECKPOINTS = ('.pth', '.pt', '.safetensors')
#: What ``--encoder`` calls other libraries.
LIBRARIES = {'timm': 'mmmim.TimmEncoder', 'mmpretrain': 'mmmim.MMPretrainEncoder'}


def encoder_config(name: str) -> dict[str, Any]:
    """The config of a model of another library, by what ``--encoder`` calls it.

    Args:
        name: 'timm:NAME' or 'mmpretrain:NAME'.

    Raises:
        InputError: The library is another one.
    """
    library, _, model = name.partition(':')
    if library not in LIBRARIES or not model:
        raise InputError(f'--encoder {name}: write timm:NAME or mmpretrain:NAME, the name of a model there.')
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
        source: A checkpoint (``*.pth``: training checkpoint of mmmim, converted or exported file; ``*.safetensors``:
            exported file), or the name of a config (see :func:`list_models`) or a config file, for a random
            initialisation. With an ``encoder``, the file of its weights, or 'random'.
        weights: Weights of a checkpoint to take: 'ema' (the teacher), 'student', or 'auto': the teacher's where there
            are any.
        device: Where to put it.
        trust_checkpoint: Whether to read files that hold pickled Python objects too, which can run any code.
        encoder: A model of another library, 'timm:NAME' or 'mmpretrain:NAME'; None for one of mmmim.

    Returns:
        The extractor.

    Raises:
        InputError: There is no such file or model, or the weights do not fit.
    """
    path = Path(source)
    if encoder is not None:
        if weights != 'auto':
            raise InputError(f'{source} is of another library and holds one set of weights: leave weights out.')
        config = {**encoder_config(encoder), 'weights': None if str(source) == RANDOM else str(source)}
        with trusting(trust_checkpoint):
            return FeatureExtractor({'backbone': config}, source=str(source)).to(device)
    if path.suffix in CHECKPOINTS:
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
