"""What downstream tasks take from a checkpoint: the model's config as plain data, one set of weights, and facts.

A config of a downstream task serves all encoders: where it depends on the encoder it has a **placeholder**, a string
``'pretrained:NAME'``, which :func:`apply_pretrained` replaces by the fact of that name, a field of :class:`Pretrained`.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmmim.checkpoints import trusting
from mmmim.checkpoints.pretrained import LATER, PLACEHOLDER, RANDOM, backbones, trained_model
from mmmim.converters.published import find_weights
from mmmim.features.names import FeatureName
from mmmim.features.pretrained_backbone import PretrainedBackbone, features_of, is_wrapped
from mmmim.features.stored_encoder import StoredEncoder
from mmmim.models.backbones.libraries import ENCODER_FILES, encoder_config
from mmmim.models.data_preprocessors.mim_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from mmmim.models.interfaces import Encoder, PoolingNeck, check_part
from mmmim.models.stored import build_sizes, pooling_necks
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.internals import config_dict
from mmmim.utils.nested import children, dicts, under, walk

from .models import CHECKPOINTS, model_config

#: What is read of an encoder where nothing is said.
MAPS = FeatureName.of('featmap')


@dataclass(frozen=True)
class Pretrained:
    """Facts of a pre-trained encoder, by the names of the placeholders.

    Attributes:
        checkpoint: Path of the weights, 'random' or 'load_from': that of :class:`mmmim.PretrainedBackbone`.
        encoder: Config of the encoder.
        embed_dim: Width D of the encoder's tokens.
        depth: Number of blocks.
        blocks: Numbers of all blocks, from 0.
        patch_size: Side of a patch in pixels.
        mean: Mean of every channel, in the 0-255 range, RGB, that images were normalised with.
        std: Standard deviation of every channel, in the 0-255 range, RGB, that images were normalised with.
        image_size: Shorter side of the images that it was trained on, in pixels.
        feature_dim: Channels of the feature that is read, ``embed_dim`` for maps; None where they depend on the number
            of patches.
        predictor: Config of the neck that sums images up, where the feature needs it.
    """

    checkpoint: str
    encoder: dict[str, Any]
    embed_dim: int
    depth: int
    blocks: list[int]
    patch_size: int
    mean: list[float]
    std: list[float]
    image_size: int
    feature_dim: int | None
    predictor: dict[str, Any] | None = None


def pretrained_facts(
    source: str | Path,
    weights: str = 'auto',
    encoder: dict[str, Any] | None = None,
    feature: FeatureName = MAPS,
) -> Pretrained:
    """Facts of what ``--pretrained`` names.

    Args:
        source: A checkpoint (``*.pth``) of mmmim, the name of published weights, 'timm:NAME=FILE' and the like, the
            folder of a model of Hugging Face, or the name or file of a config of mmmim for random weights; with an
            ``encoder``, a file of its weights, or 'random'.
        weights: 'ema', 'student', 'auto': the EMA teacher's where there are any, or 'random': of the file only which
            encoder it is.
        encoder: Config of the encoder, where it is not that of the checkpoint.
        feature: What is read of the encoder.

    Raises:
        InputError: There is no such file or model, or the file does not hold these weights, or not the predictor that
            the feature needs.
    """
    source, named = find_weights(source, foreign=encoder is not None and is_wrapped(encoder))
    if encoder is None and named is not None:
        encoder = encoder_config(named)
    checkpoint, path = str(source), Path(source)
    wrapped = encoder is not None and (is_wrapped(encoder) or checkpoint == RANDOM)
    if wrapped and checkpoint != RANDOM and not path.expanduser().is_file():
        raise InputError(f'--pretrained: the file {path} does not exist.')
    if weights == RANDOM:
        checkpoint = RANDOM
    if encoder is not None and wrapped:
        return _facts(checkpoint, encoder, {}, feature)
    if path.suffix in CHECKPOINTS and (path.suffix != '.safetensors' or path.expanduser().is_file()):
        stored = StoredEncoder.of(path, 'auto' if weights == RANDOM else weights)
        preprocessor = stored.model.get('data_preprocessor') or {}
        predictor = stored.predictor if feature.predicts else None
        if encoder is not None:
            return _facts(checkpoint, encoder, preprocessor, feature, predictor)
        described = stored.model['backbone']
        sizes = stored.sizes(_bare(described), str(path))
        return _facts(checkpoint, described, preprocessor, feature, predictor, path, sizes)
    if path.suffix in ('.bin', '.safetensors') or str(source) == RANDOM:
        raise InputError(f'--pretrained {source}: name the model too, {ENCODER_FILES}.')
    model = model_config(source)
    predictor = next((neck for _, neck in pooling_necks(model)), None)
    return _facts(RANDOM, encoder or model['backbone'], model.get('data_preprocessor') or {}, feature, predictor)


def _bare(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the config of an encoder, without the file of its weights."""
    return {key: value for key, value in copy.deepcopy(dict(encoder)).items() if key != 'weights'}


def _facts(
    checkpoint: str,
    encoder: Mapping[str, Any],
    preprocessor: Mapping[str, Any],
    feature: FeatureName,
    predictor: Mapping[str, Any] | None = None,
    file: str | Path | None = None,
    sizes: Any = None,
) -> Pretrained:
    """Facts of an encoder.

    Args:
        checkpoint: Path of the weights, or what stands for it: 'random' or 'load_from'.
        encoder: Config of the encoder.
        preprocessor: Config of what prepared its images.
        feature: What is read of the encoder.
        predictor: Config of the neck that sums images up; None without one.
        file: What has described it, where that is no config of the user.
        sizes: The encoder without memory, where it has been built.
    """
    config = _bare(encoder)
    if file is None:
        with torch.device('meta'):  # no memory, no weights
            sizes = MODELS.build(config)
    what = 'The encoder' if file is None else f'{file}: the encoder that it describes'
    built = check_part(sizes, Encoder, what)
    statistics = {
        'mean': preprocessor.get('mean', built.mean or IMAGENET_MEAN),
        'std': preprocessor.get('std', built.std or IMAGENET_STD),
    }
    for name, values in statistics.items():
        numbers = isinstance(values, list | tuple) and all(isinstance(value, int | float) for value in values)
        if file is not None and not (numbers and all(map(math.isfinite, values))):
            raise InputError(f'{file}: data_preprocessor.{name}={str(values)[:100]!r} is no list of finite numbers.')
    neck: Any = None
    if feature.predicts:
        if predictor is None:
            named = 'the model' if checkpoint == RANDOM else checkpoint
            raise InputError(
                f"The feature {feature.text!r} needs a predictor that sums up an image, as CAPI's does: {named} has "
                'none, or not with these weights. Choose another feature, such as pooled.'
            )
        neck = check_part(build_sizes(predictor, None, str(file or checkpoint)), PoolingNeck, 'The predictor')
    return Pretrained(
        checkpoint=checkpoint,
        encoder=config,
        embed_dim=built.embed_dim,
        depth=built.depth,
        blocks=list(range(built.depth)),
        patch_size=built.patch_size,
        mean=list(statistics['mean']),
        std=list(statistics['std']),
        image_size=min(built.grid) * built.patch_size,
        feature_dim=feature.width(built.embed_dim, None if neck is None else neck.out_dim),
        predictor=None if neck is None else copy.deepcopy(dict(predictor or {})),
    )


def wants_pretrained(cfg: Any) -> bool:
    """Whether a config has placeholders or a :class:`mmmim.PretrainedBackbone`."""
    return bool(backbones(config_dict(cfg))) or any(True for _ in _placeholders(config_dict(cfg)))


def set_encoder(cfg: Any, encoder: str | None) -> None:
    """Name the model of the file that ``--pretrained`` gives, in place.

    Args:
        cfg: The config, mmengine's ``Config``; changed in place.
        encoder: 'timm:NAME', 'mmpretrain:NAME' or 'huggingface:FOLDER'; None for the encoder of a checkpoint of mmmim.

    Raises:
        InputError: The library is another one, or the config has no :class:`mmmim.PretrainedBackbone`.
    """
    if encoder is None:
        return
    config = encoder_config(encoder)
    found = backbones(config_dict(cfg))
    if not found:
        raise InputError('--encoder: the config has no backbone of type mmmim.PretrainedBackbone.')
    for backbone in found:
        backbone['encoder'] = dict(config)


def apply_pretrained(cfg: Any, source: str | Path | None, weights: str = 'auto') -> None:
    """Make a config one for a pre-trained encoder, in place.

    Args:
        cfg: mmengine's ``Config``. An encoder that it names as a dict is the model of the file ``source``.
        source: What ``--pretrained`` names, see :func:`pretrained_facts`; None for nothing.
        weights: 'ema', 'student', 'auto': the EMA teacher's where there are any, or 'random': of the file only which
            encoder it is.

    Raises:
        InputError: The config needs an encoder and there is none, or the other way round; or of the file.
    """
    with trusting(cfg.get('trust_checkpoint', False)):
        _apply_pretrained(config_dict(cfg), source, weights)


def _apply_pretrained(root: Any, source: str | Path | None, weights: str) -> None:
    found = _features(root)
    places = [path for path, _ in _placeholders(root)]
    if source is None:
        if weights != 'auto':
            raise InputError('--weights chooses from the checkpoint of --pretrained: give that too.')
        if places:
            raise InputError(
                f'The config needs a pre-trained encoder ({places[0]}): --pretrained CHECKPOINT, or the name of a '
                'config of mmmim for a random one.'
            )
        for backbone, feature in found:  # so that what is trained says which encoder it has
            _name_file(backbone)
            encoder = backbone.get('encoder')
            lacks_predictor = feature.predicts and backbone.get('predictor') is None
            foreign = encoder is not None and (not lacks_predictor or is_wrapped(encoder))
            if not foreign and Path(str(backbone.get('checkpoint'))).is_file():
                stored = StoredEncoder.of(backbone['checkpoint'], backbone.get('weights', 'auto'))
                backbone['encoder'] = encoder or copy.deepcopy(stored.model['backbone'])
                if lacks_predictor:
                    backbone['predictor'] = copy.deepcopy(stored.predictor)
        return
    if not found and not places:
        raise InputError(
            '--pretrained: the config takes no pre-trained encoder, it has no mmmim.PretrainedBackbone and no value '
            "such as 'pretrained:embed_dim'."
        )
    encoder = next((b['encoder'] for b, _ in found if isinstance(b.get('encoder'), dict)), None)
    _apply_facts(root, found, pretrained_facts(source, weights, encoder, _main_feature(found)), weights)


def _name_file(backbone: dict[str, Any]) -> None:
    """Replace the name of published weights in a config by their file, and by the model that it is of."""
    encoder, checkpoint = backbone.get('encoder'), backbone.get('checkpoint')
    if checkpoint is not None:
        found, named = find_weights(checkpoint, foreign=encoder is not None and is_wrapped(encoder))
        backbone['checkpoint'] = found
        if encoder is None and named is not None:
            backbone['encoder'] = encoder_config(named)


def _apply_facts(root: Any, found: list[tuple[dict[str, Any], FeatureName]], facts: Pretrained, weights: str) -> None:
    for backbone, feature in found:
        kept = 'auto' if weights == RANDOM else weights
        backbone.update(checkpoint=facts.checkpoint, encoder=copy.deepcopy(facts.encoder), weights=kept)
        _set_predictor(backbone, feature, facts.predictor)
    fill_placeholders(root, facts)


@dataclass(frozen=True)
class EncoderInMemory:
    """The encoder of a pre-training without a file: what :func:`mmmim.checkpoints.pretrained.load_pretrained` gives.

    Attributes:
        model: Config of the :class:`MaskedImageModeling`, as its checkpoints store it.
        state: One set of its weights, ``backbone.*`` and ``branches.*``, without gradients.
    """

    model: dict[str, Any]
    state: Mapping[str, Tensor]

    @property
    def _predictor(self) -> tuple[str, dict[str, Any] | None]:
        """What the names of the predictor's weights begin with, and its config; None where these weights have none."""
        necks = pooling_necks(self.model)
        return next(((prefix, neck) for prefix, neck in necks if under(self.state, prefix)), ('', None))

    def apply(self, cfg: Any) -> None:
        """Make a config one for this encoder, in place, as :func:`apply_pretrained` does for one of a file.

        Raises:
            InputError: The config asks for what the encoder does not have.
        """
        root = config_dict(cfg)
        found = _features(root)
        preprocessor, feature = self.model.get('data_preprocessor') or {}, _main_feature(found)
        facts = _facts(LATER, self.model['backbone'], preprocessor, feature, self._predictor[1])
        _apply_facts(root, found, facts, 'auto')

    def share(self, model: nn.Module) -> None:
        """Give a model that was built from such a config the weights themselves, without a copy.

        Args:
            model: Has a frozen :class:`PretrainedBackbone`.
        """
        for part in model.modules():
            if isinstance(part, PretrainedBackbone):
                shared = {'backbone.': 'backbone.'}
                if part.predictor is not None:
                    shared['predictor.'] = self._predictor[0]
                state = {own + k: v for own, prefix in shared.items() for k, v in under(self.state, prefix).items()}
                part.load_state_dict(state, assign=True)


def apply_trained(cfg: Any, path: str | Path) -> dict[str, Any]:
    """Make a config one for the encoder of a checkpoint that it was trained to, in place.

    Placeholders become facts of that encoder. All weights are to come from ``path``: the file of the pre-training is
    not needed any more.

    Args:
        cfg: The config, mmengine's ``Config``; changed in place.
        path: The checkpoint that the model was trained to.

    Returns:
        The model of the checkpoint, its encoder without weights of its own.

    Raises:
        InputError: As :func:`trained_model`.
    """
    with trusting(cfg.get('trust_checkpoint', False)):
        model, state = trained_model(path)
    root, theirs = config_dict(cfg), backbones(model)
    if not isinstance(theirs[0].get('encoder'), dict):
        raise InputError(f'{path} does not hold the config of its encoder: give its checkpoint with --pretrained.')
    encoder, predictor = copy.deepcopy(theirs[0]['encoder']), theirs[0].get('predictor')
    for backbone in (*theirs, *backbones(root)):
        backbone.update(checkpoint=LATER, encoder=copy.deepcopy(encoder), weights='auto')
    for backbone, feature in _features(root):
        _set_predictor(backbone, feature, predictor)
    built = build_sizes(model, state, str(path))
    inside = built.modules() if isinstance(built, nn.Module) else ()
    sizes = next((part.backbone for part in inside if isinstance(part, PretrainedBackbone)), None)
    if sizes is None:
        sizes = build_sizes(_bare(encoder), None, str(path))
    preprocessor, feature = model.get('data_preprocessor') or {}, _main_feature(_features(model))
    fill_placeholders(root, _facts(LATER, encoder, preprocessor, feature, predictor, path, sizes))
    return model


def _features(node: Any) -> list[tuple[dict[str, Any], FeatureName]]:
    """The configs of :class:`mmmim.PretrainedBackbone` in a config, each with every name of what is read of it."""
    probed = {
        id(model.get('backbone')): _names(model)
        for model in dicts(node)
        if str(model.get('type')).rpartition('.')[2] in ('FrozenFeatures', 'ProbeClassifier')
    }
    found = []
    for each in backbones(node):
        names: Any = probed.get(id(each)) or each.get('out_type', 'featmap')
        several = names if isinstance(names, list | tuple) else [names]
        # What is no name is refused where it is checked.
        read = [name for name in several if isinstance(name, str)] or ['featmap']
        found += [(each, feature) for feature in features_of(read)]
    return found


def _names(model: Mapping[str, Any]) -> Any:
    """Names of the features that a model of probes reads."""
    names = model.get('features', 'patches')
    if isinstance(names, Mapping):
        return list(names.values())  # by source; None is left out
    return [names, *model['also']] if isinstance(model.get('also'), list | tuple) else names


def _main_feature(found: list[tuple[dict[str, Any], FeatureName]]) -> FeatureName:
    """What facts are of: the first feature, or the first that needs a predictor."""
    names = [feature for _, feature in found]
    return next((name for name in names if name.predicts), names[0] if names else MAPS)


def _set_predictor(backbone: dict[str, Any], feature: FeatureName, predictor: Mapping[str, Any] | None) -> None:
    """Give a backbone the config of the predictor where its feature needs it and none is named."""
    if feature.predicts and backbone.get('predictor') is None and predictor is not None:
        backbone['predictor'] = copy.deepcopy(dict(predictor))


def fill_placeholders(node: Any, facts: Pretrained) -> None:
    """Replace the placeholders in nested dicts and lists, in place.

    Raises:
        InputError: There is no fact of a name, or it is not known.
    """
    names = [field.name for field in fields(facts)]
    for path, (holder, key) in list(_placeholders(node)):
        name = holder[key].removeprefix(PLACEHOLDER)
        if name not in names:
            raise InputError(f'{path}={holder[key]!r}: there are {", ".join(PLACEHOLDER + known for known in names)}.')
        value = getattr(facts, name)
        if name == 'feature_dim' and value is None:
            raise InputError(
                f"{path}={holder[key]!r}: the channels of 'all' depend on the size of images: give a number."
            )
        holder[key] = copy.deepcopy(value)


def _placeholders(node: Any) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Dotted path of every placeholder, and what holds it under which key."""
    for holder_path, holder in [('', node), *walk(node)]:
        for key, value in children(holder):
            if isinstance(value, str) and value.startswith(PLACEHOLDER):
                where = f'{holder_path}.{key}'.strip('.')
                if isinstance(holder, tuple):
                    raise InputError(f'{where}={value!r}: write the tuple that it is in as a list.')
                yield where, (holder, key)
