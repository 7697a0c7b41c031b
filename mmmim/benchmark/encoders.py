"""The encoders of a benchmark: what the command line names, and beside each the same one with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mmmim.apis.downstream import apply_pretrained, pretrained_facts, set_encoder
from mmmim.checkpoints.pretrained import RANDOM
from mmmim.config.downloads import file_sha256
from mmmim.config.hashes import digest
from mmmim.config.resources import find_config
from mmmim.config.weights import published
from mmmim.converters.published import find_weights
from mmmim.features.names import FeatureName
from mmmim.features.pretrained_backbone import is_wrapped
from mmmim.models.backbones.libraries import ENCODER_FILES, encoder_config
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.plain import to_plain


@dataclass(frozen=True)
class Encoder:
    """An encoder that is measured.

    Attributes:
        label: What tables call it.
        source: What ``--pretrained`` takes: a file, the name of a config, or 'random'.
        library: What ``--encoder`` takes, for a file of another library.
        weights: What ``--weights`` takes.
        sha256: Hash of the file, in hexadecimal digits; None for random weights.
        about: Facts: ``type``, ``embed_dim``, ``depth``, ``patch_size``, ``image_size``.
        lacks: Features that it does not have.
        identity: A hash of weights and architecture, by which stored scores are found again.
        twin: Label of the same encoder with random weights; None where it is that one.
    """

    label: str
    source: str
    library: str | None
    weights: str
    sha256: str | None
    about: dict[str, Any]
    lacks: tuple[str, ...]
    identity: str
    twin: str | None = None

    @property
    def words(self) -> list[str]:
        """Its words on a command line."""
        library = ['--encoder', self.library] if self.library else []
        weights = ['--weights', self.weights] if self.weights != 'auto' else []
        return ['--pretrained', self.source, *library, *weights]

    def has(self, feature: str) -> bool:
        """Whether it has a feature, a name as in :meth:`mmmim.features.LayerFeatures.pool`."""
        return not any(part.name in self.lacks for part in FeatureName.of(feature).parts)

    def apply(self, cfg: Any) -> None:
        """Make a config one for it, in place.

        Raises:
            InputError: The encoder does not have what the config reads.
        """
        set_encoder(cfg, self.library)
        apply_pretrained(cfg, self.source, self.weights)


def read_encoders(names: Sequence[str], weights: str = 'auto') -> list[Encoder]:
    """The encoders of a command line, each behind its twin with random weights, which several may share.

    Args:
        names: Each a checkpoint of mmmim or a converted one, the name of published weights, that of a config for
            random weights, ``timm:NAME=FILE`` (``mmpretrain:NAME=FILE``) for a file of another library, or
            ``huggingface:FOLDER`` for a model of Hugging Face.
        weights: 'ema', 'student', or 'auto', of checkpoints of mmmim.

    Raises:
        InputError: A file is missing, cannot be read, or comes twice.
    """
    encoders: list[Encoder] = []
    for name in names:
        given, twin = _read(name, weights)
        if any(given.identity == other.identity for other in encoders):
            raise InputError(f'{name} is given twice: every encoder is measured once.')
        known = next((other for other in encoders if other.identity == twin.identity), None)
        if given.identity == twin.identity:
            encoders.append(replace(given, label=_unique(given.label, encoders)))
            continue
        if known is None:
            known = replace(twin, label=_unique(twin.label, encoders))
            encoders.append(known)
        encoders.append(replace(given, label=_unique(given.label, encoders), twin=known.label))
    return encoders


def _read(name: str, weights: str) -> tuple[Encoder, Encoder]:
    """An encoder, and the same with random weights."""
    source, library = find_weights(name)
    config = encoder_config(library) if library else None
    path = Path(source).expanduser()
    is_random = path.suffix == '.py' or find_config(source) is not None or (library is not None and source == RANDOM)
    if not is_random and not path.is_file():
        raise InputError(
            f'{source} is neither a file nor the name of a config or of published weights of mmmim: give a checkpoint, '
            f'such a name (mmmim list --pretrained), a config for random weights, or {ENCODER_FILES} of another '
            'library.'
        )
    weights = 'auto' if is_random else weights
    facts = to_plain(vars(pretrained_facts(source, weights, config)))
    lacks = _lacking(facts['encoder'], source, weights, config)
    described = digest([facts['encoder'], facts['mean'], facts['std']])
    about = {
        'type': str(facts['encoder'].get('name') or facts['encoder']['type']).rpartition('.')[2],
        **{key: facts[key] for key in ('embed_dim', 'depth', 'patch_size', 'image_size')},
    }
    named_by_user = name if published(name) is not None else library
    label = named_by_user or '/'.join(path.with_suffix('').parts[-2:])
    if library and library.startswith('huggingface:'):
        label = f'huggingface:{Path(library.partition(":")[2]).name}'
    twin = Encoder(
        label=f'random weights, as {label}',
        source=RANDOM if library else source,
        library=library,
        weights='auto' if library or is_random else RANDOM,
        sha256=None,
        about=about,
        lacks=lacks,
        identity=digest([described, RANDOM]),
    )
    if is_random:
        return twin, twin
    sha256 = file_sha256(path)
    identity = digest([described, sha256, weights])
    return Encoder(label, source, library, weights, sha256, about, lacks, identity), twin


def _lacking(encoder: dict[str, Any], source: str, weights: str, config: dict[str, Any] | None) -> tuple[str, ...]:
    """Features of whole images that an encoder does not have."""
    with torch.device('meta'):
        built = MODELS.build(encoder)
    registers = built.num_extra_tokens - built.num_cls_tokens
    every = FeatureName.of('cls+cls_probe+registers')
    names = every.lacking(built.num_cls_tokens, registers)
    try:
        pretrained_facts(source, weights, config, FeatureName.of('predicted'))
    except InputError:
        names.append('predicted')
    else:
        if is_wrapped(encoder):
            names.append('predicted')
    return tuple(names)


def _unique(label: str, encoders: Sequence[Encoder]) -> str:
    """A label that no other encoder has."""
    taken = {encoder.label for encoder in encoders}
    return next(each for n in range(len(taken) + 1) if (each := f'{label} ({n + 1})' if n else label) not in taken)
