"""The encoder in a checkpoint of a pre-training, and its predictor."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from mmmim.checkpoints.mapped import MappedFile, map_checkpoint_file
from mmmim.checkpoints.pretrained import read_pretrained
from mmmim.models.stored import build_sizes, build_stored, pooling_necks
from mmmim.utils.nested import under


class StoredEncoder:
    """Description and weights of the encoder in a checkpoint; of the file nothing else is read unless asked for.

    Args:
        file: Training checkpoint of mmmim or converted file.
        path: What messages call it.
        weights: 'ema', 'student', or 'auto': the EMA teacher's where there are any.

    Attributes:
        model: Config of the whole model.
        state: Weights of the encoder, to be copied.

    Raises:
        InputError: As :func:`mmmim.checkpoints.pretrained.load_pretrained`.
    """

    def __init__(self, file: MappedFile, path: str | Path, weights: str) -> None:
        self.path, self.weights, self._file = path, weights, file
        self.model, state = read_pretrained(file, path, weights, 'backbone.')
        self.state = under(state, 'backbone.')
        self._compared: tuple[dict[str, Any], Any] | None = None

    @classmethod
    def of(cls, path: str | Path, weights: str) -> StoredEncoder:
        """The one of a file; inside :func:`mmmim.checkpoints.mapped.reading_once` always the same."""
        file, key = map_checkpoint_file(path), (cls, weights)
        if key not in file.notes:
            file.notes[key] = cls(file, path, weights)
        return file.notes[key]

    def sizes(self, config: Mapping[str, Any], source: str) -> Any:
        """The encoder without memory, compared with its weights; arguments and errors of :func:`build_sizes`."""
        described = _of_sizes(config)
        if self._compared is None or self._compared[0] != described:
            self._compared = described, build_sizes(config, self.state, source)
        return self._compared[1]

    @cached_property
    def predictor(self) -> dict[str, Any] | None:
        """Config of the neck that sums images up; None where these weights have none."""
        return None if self._predictor is None else self._predictor[0]

    @cached_property
    def _predictor(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        for prefix, neck in pooling_necks(self.model):
            _, state = read_pretrained(self._file, self.path, self.weights, prefix)
            if state:
                return neck, under(state, prefix)
        return None

    def build_predictor(self, config: Mapping[str, Any] | None = None) -> Any:
        """The predictor with its weights.

        Args:
            config: Config of the predictor, which its weights must fit; None for that of the file.

        Returns:
            The neck; None where these weights have none.

        Raises:
            InputError: The weights do not fit.
        """
        if self._predictor is None:
            return None
        neck, state = self._predictor
        return build_stored(config or neck, state, f'{self.path} ({self.weights} weights, predictor)')

    def build(self, config: Mapping[str, Any]) -> Any:
        """The encoder with its weights.

        Args:
            config: Config of the encoder: that of the file, or another one that its weights fit.

        Raises:
            InputError: They do not fit.
        """
        source = f'{self.path} ({self.weights} weights)'
        self.sizes(config, source)
        return build_stored(config, self.state, source, compared=True)


def _of_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config decides about sizes: not the rate of stochastic depth, which downstream tasks set."""
    return {key: value for key, value in config.items() if key != 'drop_path_rate'}
