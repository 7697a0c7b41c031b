"""What the features are worth, while a training runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any

from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.hooks import Hook

from mmmim.datasets.label_spaces import check_agreement, label_spaces
from mmmim.engine.ddp import bare_model, gathered, takes_part
from mmmim.engine.training_protocols import TrainingProtocols, Weights
from mmmim.evaluation.probes.quick import quick_scores
from mmmim.features.extraction import encoders
from mmmim.features.labelled_images import LabelledImages, dropped_labels
from mmmim.features.names import check_pooling
from mmmim.registry import DATASETS, HOOKS
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.files import open_regular
from mmmim.utils.internals import loaded_from
from mmmim.utils.options import Count, Natural
from mmmim.utils.tables import markdown_table

FILE = 'probes.json'
#: Of the scores of a protocol, what it took.
SECONDS = 'seconds'


@HOOKS.register_module()
class ProbeHook(Hook):
    """Scores frozen features of student and teacher on labelled images every so many iterations.

    **Quick probes**, on the data sets of ``probe_data = dict(train=..., val=...)`` in the config (what probes learn on
    and what they are scored on, with pipelines that end in ``mmpretrain.PackInputs``): k-NN top-1 (predictor pooling,
    CLS, average of the patches, as available), linear probes, and dense k-NN mIoU where there are label maps. Without
    such data, or without labels, they are left out, which is said once. Features are computed by the first process
    while the others wait; where parameters are sharded, by all.

    **Protocols** of ``configs/eval`` that need no trained head, by their names: each is run as ``mmmim test`` runs it
    on a checkpoint of this iteration, and gives the same numbers. All processes share the work.

    The first row of the table is the model before its first step: what the features are worth without training. Scores
    go to the log, to ``probes.json`` and ``probes.png`` in the work folder and, as
    ``probe/<student|teacher>_quick_<score>`` and ``probe/<student|teacher>_<protocol>/<score>``, to the visualizer. The
    time that probing takes, that of every protocol, and their share of the run are logged with every table.

    A protocol that cannot be run is refused before the first step. Later it is a warning where a training has one
    process; of several, it ends the training, since the others wait for the one that failed.

    Args:
        interval: Iterations from one table to the next; there is one at the end, too.
        images: At most so many images of each of the two, a random subset that is the same in every run, of at most
            ``images[0] / 20`` classes. They are kept in memory.
        linear: Features of linear probes, see :meth:`mmmim.features.Features.pool`; k-NN scores them too,
            except 'all'.
        k: Number of nearest neighbours that vote.
        dense_images: Images of each that dense k-NN uses.
        protocols: Names of fitted protocols, such as ``cls_knn_fashion``, or files.
        protocol_interval: Iterations from one run of the protocols to the next, beside those at start and end; None for
            ``interval``.
        protocol_weights: The weights that protocols test: 'ema', 'student', 'both', or 'auto', as ``--weights`` of the
            command: the EMA teacher's where there are any.
    """

    # After the teacher has moved; before IterTimerHook, so that the time of probes belongs to their iteration.
    priority = 'ABOVE_NORMAL'
    only_reports = True

    def __init__(
        self,
        interval: Count,
        images: tuple[Count, Count] = (2000, 1000),
        linear: Sequence[str] = ('pooled',),
        k: Count = 10,
        dense_images: Natural = 200,
        protocols: Sequence[str] = (),
        protocol_interval: Count | None = None,
        protocol_weights: Weights = 'auto',
    ) -> None:
        for name in linear:
            check_pooling(name)
        self.interval = interval
        self.images, self.linear, self.k, self.dense_images = images, tuple(linear), k, dense_images
        self.protocols = TrainingProtocols(protocols, protocol_weights) if protocols else None
        self.protocol_interval = protocol_interval or interval
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0

    def before_train(self, runner: Any) -> None:
        """Read the images and score the model as it is."""
        self._start = time.perf_counter()
        self._path = os.path.join(runner.work_dir, FILE)
        self.data: tuple[LabelledImages, LabelledImages] | None = None
        if takes_part(runner):
            self._read_data(runner)
        self.rows = [row for row in read_rows(self._path) if row['iter'] <= runner.iter] if runner.iter else []
        self.seconds = time.perf_counter() - self._start
        known = {protocol for row in self.rows for protocol in protocols_of(row)}
        due = [self.data is not None and not any(map(is_quick, self.rows))]
        due.append(self.protocols is not None and not known >= set(self.protocols.configs))
        broadcast_object_list(due)  # the file may lie on the machine of the first process only
        self._probe(runner, runner.iter, *due)

    def _read_data(self, runner: Any) -> None:
        configs = runner.cfg.get('probe_data')
        if configs is not None:
            if set(configs) != {'train', 'val'}:
                raise InputError(f'probe_data has {", ".join(configs)}: it needs the data sets train and val.')
            train, val = self._read(configs, bare_model(runner))
            pairs = ((train.labels, val.labels), (train.label_maps, val.label_maps))
            if any(one is not None and other is not None for one, other in pairs):
                self.data = (train, val)
                for sentence in dropped_labels(self.data, self.dense_images):
                    runner.logger.warning(sentence)
        if self.data is None and self.protocols is None:
            runner.logger.info(
                'Probes: no labelled images, so only losses and health are reported. To see what the features are '
                'worth, give labelled data sets: probe_data=dict(train=..., val=...) in the config.'
            )

    def _read(self, configs: dict, model: Any) -> tuple[LabelledImages, LabelledImages]:
        datasets = [DATASETS.build(configs[split]) for split in ('train', 'val')]
        bgr = model.data_preprocessor.bgr_to_rgb
        spaces = [space for i in range(2) for space in label_spaces(f'probe_data.{("train", "val")[i]}', datasets[i])]
        if all(space.classes is not None for space in spaces):
            check_agreement(spaces)
        train = LabelledImages.read(datasets[0], self.images[0], bgr=bgr, name='probe_data.train')
        classes = None if train.labels is None else train.labels.unique().tolist()
        val = LabelledImages.read(datasets[1], self.images[1], classes, bgr, 'probe_data.val')
        for part in (train, val):
            part.batch = min(part.batch, model.micro_batch_size or part.batch)
        return train, val

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Score, every ``interval`` iterations and after the last."""
        last = self.is_last_train_iter(runner)
        quick = self.data is not None and (last or self.every_n_train_iters(runner, self.interval))
        protocols = self.protocols is not None and (last or self.every_n_train_iters(runner, self.protocol_interval))
        self._probe(runner, runner.iter + 1, quick, protocols)

    def _probe(self, runner: Any, iteration: int, quick: bool, protocols: bool) -> None:
        """Score, and say what was found; all processes come here."""
        if not (quick or protocols):
            return
        start = time.perf_counter()
        copied = iteration == 0 and loaded_from(runner) is None  # the teacher is the student's copy
        row: dict[str, float] = {'iter': iteration}
        if quick and takes_part(runner):
            row |= self._quick(runner, copied)
        scored = time.perf_counter()
        if protocols:
            row |= self._run_protocols(runner, iteration, copied)
        if self.rows and self.rows[-1]['iter'] == iteration:  # of a training that is resumed
            self.rows[-1] |= row
        else:
            self.rows.append(row)
        if not is_main_process():
            return
        self._write(runner, row, copied)
        now = time.perf_counter()
        self.seconds += now - start
        share = f'all probes {self.seconds / (now - self._start):.1%} of the run so far'
        if quick:
            assert self.data is not None
            runner.logger.info(
                f'Probes at iteration {iteration}, on {len(self.data[0].images)} images to learn and '
                f'{len(self.data[1].images)} to score ({scored - start:.1f} s; {share}):\n{table(self.rows)}'
            )
        if protocols:
            for name in protocols_of(row):  # one by one: the screen leaves out long messages
                took = sum(value for key, value in row.items() if key.endswith(f'_{name}/{SECONDS}'))
                runner.logger.info(f'{name} at iteration {iteration} ({took:.1f} s):\n{table(self.rows, name)}')
            runner.logger.info(f'Protocols at iteration {iteration}: {now - scored:.1f} s; {share}.')

    def _quick(self, runner: Any, copied: bool) -> dict[str, float]:
        """Scores of the quick probes."""
        assert self.data is not None
        row: dict[str, float] = {}
        with gathered(runner):
            for name, extract in encoders(bare_model(runner), self.linear).items():
                if name == 'teacher' and copied:
                    continue
                scores = quick_scores(extract, *self.data, self.linear, self.k, self.dense_images)
                row |= {f'{name}_{key}': value for key, value in scores.items()}
        return row

    def _run_protocols(self, runner: Any, iteration: int, copied: bool) -> dict[str, float]:
        """Scores of the protocols, and the seconds of each."""
        assert self.protocols is not None
        tested = ['student'] if copied else self.protocols.tested(runner)
        row: dict[str, float] = {}
        try:
            for protocol, name, result in self.protocols.run(runner, tested):
                scores = {key: value for key, value in result.metrics.items() if isinstance(value, int | float)}
                row |= {f'{name}_{protocol}/{key}': value for key, value in {**scores, SECONDS: result.seconds}.items()}
        except Exception as error:
            if get_world_size() > 1:
                raise InputError(
                    f'The protocols of default_hooks.probe failed ({type(error).__name__}: {error}): the training '
                    'ends, since its other processes wait. Resume it without them.'
                ) from error
            if not isinstance(error, InputError) or iteration == runner.iter:  # nothing is lost yet
                raise
            runner.logger.warning(f'Protocols at iteration {iteration} were left out: {error}')
        return row

    def _write(self, runner: Any, row: dict[str, float], copied: bool) -> None:
        """Give the scores to the visualizer and to the file."""
        scalars = {
            f'probe/{key}': value for key, value in row.items() if key != 'iter' and not key.endswith(f'/{SECONDS}')
        }
        if copied and bare_model(runner).teacher is not None:
            scalars |= {key.replace('/student_', '/teacher_'): value for key, value in scalars.items()}
        # With `iter`, as LoggerHook's values of the training have it.
        runner.visualizer.add_scalars({**scalars, 'iter': row['iter']}, step=row['iter'])
        try:
            write_text_atomically(json.dumps(self.rows, indent=1) + '\n', self._path)
        except InputError as error:  # a table must not end a training
            runner.logger.warning(str(error))


def read_rows(path: str) -> list[dict[str, float]]:
    """The rows of a ``probes.json``; none where there is no such file, or a damaged one."""
    try:
        with open_regular(path) as file:
            rows = json.load(file)
    except (OSError, ValueError, RecursionError):
        return []
    numbers = isinstance(rows, list) and all(
        isinstance(row, dict)
        and 'iter' in row
        and all((key == 'iter' or '_' in key) and isinstance(value, int | float) for key, value in row.items())
        for row in rows
    )
    return rows if numbers else []


def is_quick(row: dict[str, float]) -> bool:
    """Whether a row has scores of the quick probes, whose names have no protocol in front."""
    return any(key != 'iter' and '/' not in key for key in row)


def protocols_of(row: dict[str, float]) -> list[str]:
    """Names of the protocols that a row has scores of: keys are ``<student|teacher>_<protocol>/<score>``."""
    return list(dict.fromkeys(key.partition('/')[0].partition('_')[2] for key in row if '/' in key))


def _of(row: dict[str, float], protocol: str | None) -> dict[str, float]:
    """The scores of a protocol as ``<student|teacher>_<score>``; None: those of the quick probes."""
    found = {}
    for key, value in row.items():
        name, slash, score = key.partition('/')
        weights, _, of = name.partition('_')
        if not slash and protocol is None:
            found[key] = value
        elif slash and of == protocol:
            found[f'{weights}_{score}'] = value
    return found


def table(rows: list[dict[str, float]], protocol: str | None = None, last: int = 5) -> str:
    """A Markdown table of the first row, which training is compared with, and the last ones.

    Args:
        rows: Rows of ``probes.json``.
        protocol: Name of the protocol whose scores are shown; None for the quick probes.
        last: How many rows are shown beside the first.
    """
    return markdown_table(*table_of(rows, protocol, last))


def table_of(
    rows: list[dict[str, float]], protocol: str | None = None, last: int = 5
) -> tuple[list[str], list[list[str]]]:
    """Header and cells of a table of the first row and the last ones.

    Args:
        rows: Rows of ``probes.json``.
        protocol: Name of the protocol whose scores are shown; None for the quick probes.
        last: How many rows are shown beside the first.
    """
    found = [({'iter': row['iter']} | scores) for row in rows if set(scores := _of(row, protocol)) - {'iter'}]
    shown = found[:1] + found[1:][-last:]
    columns = list(dict.fromkeys(key.split('_', 1)[1] for row in found for key in row if key != 'iter'))
    lines = []
    for scored in shown:
        for name in ('student', 'teacher'):
            if not any(key.startswith(f'{name}_') for key in scored):
                continue
            values = [scored.get(f'{name}_{column}') for column in columns]
            label = f'{scored["iter"]}' if scored['iter'] else 'start'
            lines.append([label, name, *('' if value is None else _number(value) for value in values)])
    return ['iteration', 'weights', *columns], lines


def _number(value: float) -> str:
    return f'{value}' if isinstance(value, int) else f'{value:.3f}'
