"""What the features are worth, while a training runs."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook

from mmmim.datasets.label_spaces import check_agreement, label_spaces
from mmmim.engine.ddp import bare_model, gathered, is_sharded, takes_part
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


@HOOKS.register_module()
class ProbeHook(Hook):
    """Scores frozen features of student and teacher on labelled images every so many iterations.

    k-NN top-1 (predictor pooling, CLS, average of the patches, as available), linear probes, and dense k-NN mIoU where
    there are label maps. The first row of the table is the model before its first step: what the features are worth
    without training. Scores go to the log, to ``probes.json`` and ``probes.png`` in the work folder and, as
    ``probe/<student|teacher>_<score>``, to the visualizer. The time that probing takes, and its share of the run, is
    logged with every table. Features are computed by the first process while the others wait; where
    parameters are sharded, by all.

    The images are the data sets of ``probe_data = dict(train=..., val=...)`` in the config: what probes learn on and
    what they are scored on, with pipelines that end in ``mmpretrain.PackInputs``. Without it, or without labels,
    nothing is scored, which is said once.

    Args:
        interval: Iterations from one table to the next; there is one at the end, too.
        images: At most so many images of each of the two, a random subset that is the same in every run, of at most
            ``images[0] / 20`` classes. They are kept in memory.
        linear: Features of linear probes, see :meth:`mmmim.features.Features.pool`; k-NN scores them too,
            except 'all'.
        k: Number of nearest neighbours that vote.
        dense_images: Images of each that dense k-NN uses.
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
    ) -> None:
        for name in linear:
            check_pooling(name)
        self.interval = interval
        self.images, self.linear, self.k, self.dense_images = images, tuple(linear), k, dense_images
        self.rows: list[dict[str, float]] = []
        self.seconds = 0.0

    def before_train(self, runner: Any) -> None:
        """Read the images and score the model as it is."""
        self._start = time.perf_counter()
        self.data: tuple[LabelledImages, LabelledImages] | None = None
        if not takes_part(runner):
            return
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
        if self.data is None:
            runner.logger.info(
                'Probes: no labelled images, so only losses and health are reported. To see what the features are '
                'worth, give labelled data sets: probe_data=dict(train=..., val=...) in the config.'
            )
            return
        self._path = os.path.join(runner.work_dir, FILE)
        self.rows = [row for row in read_rows(self._path) if row['iter'] <= runner.iter] if runner.iter else []
        self.seconds = time.perf_counter() - self._start
        fresh = [not self.rows]
        if is_sharded(runner):  # the file may lie on the machine of the first process only
            broadcast_object_list(fresh)
        if fresh[0]:
            self._probe(runner, runner.iter)

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
        due = self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner)
        if due and self.data is not None and takes_part(runner):
            self._probe(runner, runner.iter + 1)

    def _probe(self, runner: Any, iteration: int) -> None:
        assert self.data is not None
        start = time.perf_counter()
        model = bare_model(runner)
        copied = iteration == 0 and loaded_from(runner) is None  # the teacher is the student's copy
        row: dict[str, float] = {'iter': iteration}
        with gathered(runner):
            for name, extract in encoders(model, self.linear).items():
                if name == 'teacher' and copied:
                    continue
                scores = quick_scores(extract, *self.data, self.linear, self.k, self.dense_images)
                row |= {f'{name}_{key}': value for key, value in scores.items()}
        self.rows.append(row)
        if not is_main_process():
            return
        scalars = {f'probe/{key}': value for key, value in row.items() if key != 'iter'}
        if copied and model.teacher is not None:
            scalars |= {key.replace('/student_', '/teacher_'): value for key, value in scalars.items()}
        # With `iter`, as LoggerHook's values of the training have it.
        runner.visualizer.add_scalars({**scalars, 'iter': iteration}, step=iteration)
        try:
            write_text_atomically(json.dumps(self.rows, indent=1) + '\n', self._path)
        except InputError as error:  # a table must not end a training
            runner.logger.warning(str(error))
        now = time.perf_counter()
        self.seconds += now - start
        share = self.seconds / (now - self._start)
        runner.logger.info(
            f'Probes at iteration {iteration}, on {len(self.data[0].images)} images to learn and '
            f'{len(self.data[1].images)} to score ({now - start:.1f} s; all probes {share:.1%} of the run so far):\n'
            f'{table(self.rows)}'
        )


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


def table(rows: list[dict[str, float]], last: int = 5) -> str:
    """A Markdown table of the first row, which training is compared with, and the last ones."""
    shown = rows[:1] + rows[1:][-last:]
    scores = list(dict.fromkeys(key.split('_', 1)[1] for row in rows for key in row if key != 'iter'))
    lines = []
    for row in shown:
        weights = ['student', 'teacher'] if any(key.startswith('teacher_') for key in row) else ['student']
        for name in weights:
            values = [row.get(f'{name}_{score}') for score in scores]
            label = f'{row["iter"]}' if row['iter'] else 'start'
            lines.append([label, name, *('' if value is None else f'{value:.3f}' for value in values)])
    return markdown_table(['iteration', 'weights', *scores], lines)
