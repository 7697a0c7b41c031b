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
from mmmim.models.backbones.libraries import ENCODER_FILES, encoder_config
from mmmim.utils import InputError

#: How files of weights end; of safetensors, those that mmmim has written.
CHECKPOINTS = ('.pth', '.pt', '.safetensors')


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
) -> FeatureExtractor:
    """A frozen encoder with its features.

    Args:
        source: The name of published weights (see :func:`list_models`), which are downloaded and converted when they
            are first asked for; or a checkpoint (``*.pth``: training checkpoint of mmmim, converted or exported file;
            ``*.safetensors``: exported file); or the name of a config or a config file, for a random initialisation,
            with a warning. Of other libraries: 'timm:NAME=FILE', 'mmpretrain:NAME=FILE' ('...=random' for random
            weights), 'huggingface:FOLDER' or the folder alone.
        weights: Weights of a checkpoint to take: 'ema' (the teacher), 'student', or 'auto': the teacher's where there
            are any.
        device: Where to put it.
        trust_checkpoint: Whether to read files that hold pickled Python objects too, which can run any code.

    Returns:
        The extractor.

    Raises:
        InputError: There is no such file or model, or the weights do not fit, or cannot be downloaded.
    """
    with trusting(trust_checkpoint):
        found, encoder = find_weights(source)
    path = Path(found)
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
            f'{source} is no checkpoint (*.pth), no config file and no model name, nor {ENCODER_FILES}. '
            + (f'Did you mean {", ".join(close)}? ' if close else '')
            + 'mmmim.list_models() has the names of configs, mmmim.list_models(pretrained=True) those of weights.'
        )
    cfg = Config.fromfile(config)
    apply_images(cfg)
    return cfg.model.to_dict()
