"""Models by name."""

import logging
from pathlib import Path
from typing import Any

from mmengine import Config
from mmengine.logging import print_log

from mmmim.checkpoints import trusting
from mmmim.checkpoints.pretrained import RANDOM
from mmmim.config.images import apply_images
from mmmim.config.resources import find_config
from mmmim.config.weights import model_names, read_weights, similar_names
from mmmim.converters.published import find_weights
from mmmim.features.extractor import FeatureExtractor
from mmmim.models.backbones.huggingface_folder import read_folder
from mmmim.utils import InputError

#: How files of weights end; of safetensors, those that mmmim has written.
CHECKPOINTS = ('.pth', '.pt', '.safetensors')
#: What ``--encoder`` calls other libraries.
LIBRARIES = {
    'timm': 'mmmim.TimmEncoder',
    'mmpretrain': 'mmmim.MMPretrainEncoder',
    'huggingface': 'mmmim.HuggingFaceEncoder',
}
#: How messages say what ``--encoder`` takes.
ENCODER_NAMES = 'timm:NAME, mmpretrain:NAME or huggingface:FOLDER'


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


def list_models(pattern: str = '*', pretrained: bool = False, ablations: bool = False) -> list[str]:
    """Names that :func:`get_model` takes: of configs, e.g. ``capi/vitl14``, or of published weights.

    Args:
        pattern: Shell pattern, e.g. ``capi/*``.
        pretrained: Published weights, e.g. ``capi_vitl14_lvd``, instead of configs, which are random weights.
        ablations: Whether to list configs of ablations, too; a ``pattern`` with this word in it does as well.

    Returns:
        Sorted names.
    """
    return model_names(pattern, pretrained, ablations)


def get_model(
    source: str | Path,
    weights: str = 'auto',
    device: str = 'cpu',
    trust_checkpoint: bool = False,
    encoder: str | None = None,
) -> FeatureExtractor:
    """A frozen encoder with its features.

    Args:
        source: The name of published weights (see :func:`list_models`), which are downloaded and converted when they
            are first asked for; or a checkpoint (``*.pth``: training checkpoint of mmmim, converted or exported file;
            ``*.safetensors``: exported file); or the folder of a model of Hugging Face; or the name of a config or a
            config file, for a random initialisation, with a warning. With an ``encoder``, the file of its weights, or
            'random'.
        weights: Weights of a checkpoint to take: 'ema' (the teacher), 'student', or 'auto': the teacher's where there
            are any.
        device: Where to put it.
        trust_checkpoint: Whether to read files that hold pickled Python objects too, which can run any code.
        encoder: A model of another library, 'timm:NAME', 'mmpretrain:NAME' or 'huggingface:FOLDER'; None for one of
            mmmim.

    Returns:
        The extractor.

    Raises:
        InputError: There is no such file or model, or the weights do not fit, or cannot be downloaded.
    """
    with trusting(trust_checkpoint):
        found, named = find_weights(source, foreign=encoder is not None)
    path, encoder = Path(found), encoder or named
    if encoder is not None:
        if weights != 'auto':
            raise InputError(f'{source} is of another library and holds one set of weights: leave weights out.')
        config = {**encoder_config(encoder), 'weights': None if found == RANDOM else found}
        with trusting(trust_checkpoint):
            return FeatureExtractor({'backbone': config}, source=str(source)).to(device)
    if path.suffix in CHECKPOINTS:
        return FeatureExtractor.from_checkpoint(path, weights, trust_checkpoint).to(device)
    config = model_config(source)
    names = [row.name for row in read_weights().weights.values() if row.config == source and row.tokenizer is None]
    trained = f' Published weights of such a training: {names[0]}.' if names else ''
    print_log(f'{source} names a config: its weights are RANDOM.{trained}', 'current', logging.WARNING)
    return FeatureExtractor(config, source=str(source)).to(device)


def model_config(source: str | Path) -> dict[str, Any]:
    """The config of a model, by its name (see :func:`list_models`) or the config file.

    Raises:
        InputError: There is no such model or file.
    """
    path = Path(source)
    config = path if path.is_file() else find_config(str(source))
    if config is None or config.suffix != '.py':
        close = similar_names(str(source))
        raise InputError(
            f'{source} is no checkpoint (*.pth), no config file and no model name. '
            + (f'Did you mean {", ".join(close)}? ' if close else '')
            + 'mmmim.list_models() has the names of configs, mmmim.list_models(pretrained=True) those of weights.'
        )
    cfg = Config.fromfile(config)
    apply_images(cfg)
    return cfg.model.to_dict()
