"""A protocol that is trained and tested with several seeds, and with several numbers of images per class."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from mmmim.config.resources import resources
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.nested import walk
from mmmim.utils.tables import markdown_table

from .jobs import run_command

#: What the tests of a run have given, in its folder, and what it was made by.
SCORES, MADE_BY = 'scores.json', 'made_by.json'


@dataclass(frozen=True)
class Repeat:
    """A run of a protocol.

    Attributes:
        seed: Seed of the run, and of the choice of a few images of each class.
        shots: Images of each class; None: all, or what the config says.
        folder: Where it writes.
        options: Changes of the config, as ``--cfg-options`` takes them.
    """

    seed: int
    shots: int | None
    folder: Path
    options: list[str]


def make_repeats(cfg: Any, seeds: Sequence[int], shots: Sequence[int] | None, work_dir: Path) -> list[Repeat]:
    """A run for every number of shots and seed.

    Args:
        cfg: Config of the protocol.
        seeds: Seeds of the runs.
        shots: Numbers of images per class; None for that of the config.
        work_dir: Each run has a folder in it.

    Raises:
        InputError: Seeds or numbers come twice, or there are shots and the config trains on all images.
    """
    for name, values in (('--seeds', seeds), ('--shots', shots or ())):
        if len(set(values)) < len(values):
            raise InputError(f'{name}: {" ".join(map(str, values))} has a number twice, which would be one run.')
    few = [
        f'train_dataloader.{path}'
        for path, node in walk(cfg.train_dataloader)
        if isinstance(node, Mapping) and node.get('type') == 'mmmim.FewShot'
    ]
    if shots is not None and not few:
        raise InputError(f'--shots: {cfg.filename} has no mmmim.FewShot in train_dataloader, it trains on all images.')
    found = []
    numbers: Sequence[int | None] = shots or [None]
    for number, seed in product(numbers, seeds):
        options = [f'randomness.seed={seed}', *(f'{path}.seed={seed}' for path in few)]
        options += [f'{path}.shots={number}' for path in few if number is not None]
        name = f'seed_{seed}' if number is None else f'shots_{number}_seed_{seed}'
        found.append(Repeat(seed, number, work_dir / name, options))
    return found


def run(repeat: Repeat, config: str, words: Sequence[str], options: Sequence[str], processes: int = 1) -> None:
    """Train and test, unless that is done; a run that was interrupted goes on.

    Args:
        repeat: Seed, shots and folder of the run.
        config: Path or name of the config of the protocol.
        words: Words of the command line of a training that say which encoder it has.
        options: Changes of the config of all runs.
        processes: Processes, or GPUs, of a run.

    Raises:
        InputError: Its folder holds a run of another config or encoder, or a command failed.
    """
    made_by = [config, os.environ.get('MMMIM_DATA'), *words, *options, *repeat.options]
    label = repeat.folder / MADE_BY
    if not label.exists():
        repeat.folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(json.dumps(made_by) + '\n', str(label))
    if json.loads(label.read_text()) != made_by:
        raise InputError(
            f'{repeat.folder} holds a run of another config, data set, encoder or options: give another --work-dir.'
        )
    scores = repeat.folder / SCORES
    if scores.exists():
        return
    train_and_test(config, words, [*options, *repeat.options], repeat.folder, scores, processes)


def train_and_test(
    config: str, words: Sequence[str], options: Sequence[str], folder: Path, scores: Path, processes: int = 1
) -> None:
    """Train a protocol and test what came out; a training that was interrupted goes on.

    Args:
        config: Path or name of the config of the protocol.
        words: Words of the command line of the training that say which encoder it has.
        options: Changes of the config, as ``--cfg-options`` takes them.
        folder: Work folder of both.
        scores: The file that the test writes.
        processes: Processes, or GPUs.

    Raises:
        InputError: A command failed.
    """
    where, changes = ['--work-dir', str(folder)], ['--cfg-options', *options] if options else []
    run_tool('train', [config, *words, *where, '--resume', *changes], processes)
    checkpoint = (folder / 'last_checkpoint').read_text().strip()
    run_tool('test', [config, checkpoint, *where, '--out', str(scores), *changes], processes)


def run_tool(name: str, words: Sequence[str], processes: int = 1) -> None:
    """Train or test, by several processes where asked for.

    Args:
        name: 'train' or 'test'.
        words: Arguments of the command, the config first.
        processes: Processes, or GPUs.

    Raises:
        InputError: The command failed.
    """
    tool = str(resources() / 'tools' / f'{name}.py')
    command = [sys.executable, tool, *words]
    if processes > 1:
        launch = ['-m', 'mmmim.cli.launch', '--standalone', '--nproc-per-node', str(processes)]
        command = [sys.executable, *launch, tool, words[0], '--launcher', 'pytorch', *words[1:]]
    if run_command(command, Path.cwd()):
        raise InputError(f'A run failed, its messages are above: {" ".join(command)}')


def summary(repeats: Sequence[Repeat]) -> list[dict[str, Any]]:
    """Scores of runs by their number of shots: of every score ``values``, ``mean`` and ``deviation``, with n - 1.

    Args:
        repeats: Runs that are done.
    """
    rows = []
    for shots in dict.fromkeys(repeat.shots for repeat in repeats):
        runs = [repeat for repeat in repeats if repeat.shots == shots]
        scores = [json.loads((repeat.folder / SCORES).read_text()) for repeat in runs]
        names = [name for name, value in scores[0].items() if isinstance(value, int | float)]
        row: dict[str, Any] = {'shots': shots, 'seeds': [repeat.seed for repeat in runs], 'scores': {}}
        for name in names:
            values = [each[name] for each in scores]
            deviation = statistics.stdev(values) if len(values) > 1 else None
            row['scores'][name] = {'values': values, 'mean': statistics.fmean(values), 'deviation': deviation}
        rows.append(row)
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table of :func:`summary`."""
    names = dict.fromkeys(name for row in rows for name in row['scores'] if not name.startswith('dropped/'))
    lines = []
    for row in rows:
        first = ['all' if row['shots'] is None else str(row['shots'])]
        lines.append([*first, str(len(row['seeds'])), *(_cell(row['scores'].get(name)) for name in names)])
    return markdown_table(['images per class', 'runs', *names], lines)


def _cell(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return ''
    deviation = score['deviation']
    return f'{score["mean"]:.2f}' if deviation is None else f'{score["mean"]:.2f} ± {deviation:.2f}'
