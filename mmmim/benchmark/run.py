"""Running the protocols of a benchmark over its encoders, one after the other, with what is done kept."""

from __future__ import annotations

import copy
import json
import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mmmim.comparison.jobs import file_name
from mmmim.comparison.repeats import run_tool, train_and_test
from mmmim.config.cfg_options import merge_cfg_options
from mmmim.config.hashes import digest
from mmmim.engine.config_check import check_config
from mmmim.engine.protocols import fits, run_protocol
from mmmim.utils import InputError
from mmmim.utils.plain import to_plain

from .encoders import Encoder
from .results import Record, Result
from .suite import DATA, Protocol, environment, missing_data

#: Where features lie that protocols share, and what the tests of a protocol have given, in its folder.
FEATURES, SCORES = 'features', 'scores.json'


@dataclass
class Benchmark:
    """The protocols of a suite over encoders.

    Attributes:
        record: What is to be measured; results are put into it.
        folder: Where everything is written.
        processes: Processes, or GPUs, of every protocol.
        done: Results of an earlier call, by what made them.
    """

    record: Record
    folder: Path
    processes: int
    done: Mapping[str, Result]
    _configs: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def run(self, finished: Callable[[], None], say: Callable[[str], None] = print) -> None:
        """Run what is not done yet.

        Args:
            finished: Called after every result.
            say: Takes a line about every result, with the time that is left.

        Raises:
            InputError: The folder cannot be written.
        """
        for protocol in self.record.protocols:
            self._configs[protocol.name] = protocol.load()
            if (missing := missing_data(self._configs[protocol.name])) is not None:
                self.record.skipped[protocol.name] = missing
        together = self._features()
        plan = [(protocol, encoder) for encoder in self.record.encoders for protocol in self.record.measured]
        took: dict[str, float] = {}
        for i, (protocol, encoder) in enumerate(plan, 1):
            result, is_new = self._result(protocol, encoder, together)
            if is_new:
                took[protocol.name] = result.seconds
            self.record.results[protocol.name, encoder.label] = result
            finished()
            mean = sum(took.values()) / max(len(took), 1)
            left = sum(took.get(each.name, mean) for each, _ in plan[i:])
            score = result.score(protocol)
            what = f'{score:.4g} {protocol.unit}'.strip() if score is not None else result.message
            seconds = f'{result.seconds:.0f} s' if is_new else 'nothing to do'
            say(f'[{i}/{len(plan)}] {encoder.label}: {protocol.title}: {what} ({seconds}; about {left:.0f} s left)')

    def _features(self) -> dict[str, list[str]]:
        """Names of features that protocols read of the same images, by a hash of the images."""
        found: dict[str, list[str]] = {}
        for protocol in self.record.measured:
            cfg = self._configs[protocol.name]
            if (name := _feature(cfg)) is not None and not protocol.blocks:
                found.setdefault(_images(cfg), []).append(name)
        return found

    def _result(
        self, protocol: Protocol, encoder: Encoder, together: Mapping[str, Sequence[str]]
    ) -> tuple[Result, bool]:
        """The result of a protocol, and whether it was computed now."""
        cfg = copy.deepcopy(self._configs[protocol.name])
        options = list(protocol.option_words)
        if protocol.blocks:
            options.append(f'model.backbone.out_indices={list(range(encoder.about["depth"]))}'.replace(' ', ''))
        words = [protocol.config, *encoder.words]
        command = _shown('test' if fits(cfg) else 'train', protocol, [*words, *_with(options)])
        place = Path('runs') / file_name(encoder.label) / protocol.name
        result = Result(protocol.name, encoder.label, '', command, folder=place.as_posix())
        feature = _feature(cfg)
        if feature is not None and not encoder.has(feature):
            return replace(result, message=f'The encoder has no feature {feature}.'), False
        shared = self._shared(cfg, encoder, [] if protocol.blocks else together.get(_images(cfg), []))
        start = time.monotonic()
        try:
            made_by = digest([to_plain(cfg.to_dict()), protocol.data, encoder.identity, protocol.blocks])
            if (known := self.done.get(made_by)) is not None:
                return replace(known, protocol=protocol.name, encoder=encoder.label), False
            result = replace(result, made_by=made_by)
            merge_cfg_options(cfg, [*options[len(protocol.options) :], *shared])
            encoder.apply(cfg)
            if fits(cfg) and self.processes == 1:
                metrics = self._here(cfg, place)
            else:
                metrics = self._by_commands(protocol, fits(cfg), words, [*options, *shared], place)
        except InputError as error:
            return replace(result, message=str(error), seconds=time.monotonic() - start), True
        scores = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
        pictures = _pictures(self.folder / place)
        result = replace(result, metrics=scores, seconds=time.monotonic() - start, pictures=pictures)
        if result.score(protocol) is None:
            had = f'protocols.{protocol.name}.score={protocol.score!r}: the test gives {", ".join(scores)}.'
            result = replace(result, message=had)
        return result, True

    def _shared(self, cfg: Any, encoder: Encoder, beside: Sequence[str]) -> list[str]:
        """Options by which protocols share features, which change no score."""
        if 'cache' not in (cfg.get('test_cfg') or {}):
            return []
        words = [f'test_cfg.cache.folder={(self.folder / FEATURES).as_posix()}']
        also = [name for name in dict.fromkeys(beside) if name != _feature(cfg) and encoder.has(name)]
        return [*words, f'+model.also={also!r}'.replace(' ', '')] if also else words

    def _here(self, cfg: Any, place: Path) -> dict[str, Any]:
        """The scores of a protocol that needs no training, computed in this process."""
        cfg.launcher, cfg.load_from, cfg.resume = 'none', None, False
        cfg.work_dir = str(self.folder / place)
        check_config(cfg)
        os.makedirs(cfg.work_dir, exist_ok=True)
        return run_protocol(cfg).metrics

    def _by_commands(
        self, protocol: Protocol, is_fitted: bool, words: Sequence[str], options: Sequence[str], place: Path
    ) -> dict[str, Any]:
        """The scores of a protocol by the commands of a user: one that tests, or one that trains before."""
        folder = self.folder / place
        scores = folder / SCORES
        with environment(protocol.data):
            if is_fitted:
                where = ['--work-dir', str(folder), '--out', str(scores)]
                run_tool('test', [*words, *where, *_with(options)], self.processes)
            else:
                train_and_test(words[0], words[1:], options, folder, scores, self.processes)
        return json.loads(scores.read_text())


def _with(options: Sequence[str]) -> list[str]:
    return ['--cfg-options', *options] if options else []


def _shown(name: str, protocol: Protocol, words: Sequence[str]) -> str:
    """A command for people."""
    data = f'{DATA}={shlex.quote(protocol.data)} ' if protocol.data else ''
    return f'{data}mmmim {name} {shlex.join(words)}'


def _feature(cfg: Any) -> str | None:
    """The feature that a fitted protocol reads; None for others."""
    return cfg.model.get('features') if 'cache' in (cfg.get('test_cfg') or {}) else None


def _images(cfg: Any) -> str:
    """A hash of the images that a protocol reads, and of how they are loaded."""
    sets = [to_plain((cfg.get(key) or {}).get('dataset') or {}) for key in ('fit_dataloader', 'test_dataloader')]
    return digest([sets, str(_feature(cfg)) in ('patches', 'tokens')])


def _pictures(folder: Path) -> list[str]:
    """Pictures that a run has left, the newest of each name."""
    found = sorted(folder.rglob('*.png'), key=lambda path: path.stat().st_mtime)
    return sorted(path.relative_to(folder).as_posix() for path in {path.name: path for path in found}.values())
