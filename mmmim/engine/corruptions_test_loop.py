"""Test a classifier on clean and on corrupted images."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.runner import TestLoop

from mmmim.datasets.corruptions import NAMES, SEVERITIES, Corrupt
from mmmim.datasets.corruptions.kinds import CORRUPTIONS, check_corruption
from mmmim.datasets.label_spaces import leaves
from mmmim.evaluation.measures.calibration import Calibration
from mmmim.evaluation.measures.corruption_error import check_baseline, summary
from mmmim.registry import LOOPS
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.files import read_regular
from mmmim.utils.options import Count, Members, Natural
from mmmim.utils.plain import to_plain
from mmmim.utils.tables import markdown_table

#: Written beside the log, with the endings of data, of a table and of a picture.
FILE = 'corruptions'
#: Bytes of the longest record.
_RECORD = 2**24


@LOOPS.register_module()
class CorruptionsTestLoop(TestLoop):
    """Test a classifier on images as they are and under every corruption and severity (arXiv 1903.12261).

    The pipeline of the test images has a :class:`mmmim.Corrupt` without a name where they are to be corrupted, after
    they have their final size; this loop gives it its names. Beside the log it writes ``corruptions.json``, which can
    be the baseline of another run, a table, curves and, of the first images, a sheet of all corruptions.

    Args:
        runner: The runner, whose model is a classifier.
        dataloader: Loader of the test images, or its config.
        evaluator: Evaluator with a :class:`mmmim.Calibration`, or its config.
        corruptions: Names of the corruptions.
        severities: Severities from 1 to 5.
        baseline: The ``corruptions.json`` of another classifier on the same images, whose errors are 100 %; None: no
            such ratios.
        examples: Number of images that are drawn.

    Raises:
        InputError: A part is missing, there is no such corruption, or the baseline is none.
    """

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        evaluator: Any,
        corruptions: Annotated[Sequence[str], Members(1)] = NAMES,
        severities: Annotated[Sequence[Count], Members(1)] = SEVERITIES,
        baseline: str | None = None,
        examples: Natural = 1,
    ) -> None:
        super().__init__(runner, dataloader, evaluator)
        for name in corruptions:
            for severity in severities:
                check_corruption(name, severity)
        if not any(isinstance(metric, Calibration) for metric in self.evaluator.metrics):
            raise InputError("mmmim.CorruptionsTestLoop: test_evaluator needs dict(type='mmmim.Calibration').")
        self.corruptions, self.severities, self.examples = list(corruptions), list(severities), examples
        self._transforms = list(self._find())
        if getattr(self.dataloader, 'persistent_workers', False):
            raise InputError('mmmim.CorruptionsTestLoop: set test_dataloader.persistent_workers=False.')
        plain = to_plain(runner.cfg.test_dataloader.dataset.to_dict())
        #: What is written to ``corruptions.json``.
        self.record: dict[str, Any] = {
            'data': {key: plain.get(key) for key in ('type', 'split', 'indices', 'subset')},
            'images': len(self.dataloader.dataset),
            'seed': self._transforms[0].seed,
            'corruptions': self.corruptions,
            'severities': self.severities,
        }
        self.record = json.loads(json.dumps(self.record))
        self.baseline = None if baseline is None else self._read(baseline)
        self.baseline_path = baseline

    def _find(self) -> Iterator[Corrupt]:
        """The transforms that corrupt, one of every data set."""
        for leaf in leaves(self.dataloader.dataset):
            found = [each for each in leaf.pipeline.transforms if isinstance(each, Corrupt)]
            if len(found) != 1 or found[0].name is not None:
                raise InputError(
                    "mmmim.CorruptionsTestLoop: the pipeline of test_dataloader.dataset needs one dict(type='mmmim."
                    "Corrupt') without a name, where the images are to be corrupted."
                )
            yield found[0]

    def _read(self, path: str) -> dict[str, Any]:
        """The record of another classifier."""
        try:
            found = json.loads(read_regular(path, _RECORD))
        except (OSError, ValueError) as error:
            raise InputError(f'test_cfg.baseline={path} cannot be read: {error}.') from None
        check_baseline(found, self.record, path)
        return found

    def run(self) -> dict[str, float]:
        """Test clean images, then every corruption."""
        runner, record = self.runner, self.record
        runner.call_hook('before_test')
        runner.call_hook('before_test_epoch')
        runner.model.eval()
        clean = self._score(None, 1)
        record['clean'] = _kept(clean)
        record['corrupted'] = {}
        for name in self.corruptions:
            start = time.perf_counter()
            by_severity = {str(severity): _kept(self._score(name, severity)) for severity in self.severities}
            record['corrupted'][name] = by_severity
            seconds = time.perf_counter() - start
            words = ', '.join(f'{severity}: {scores["top1"]:.2f}' for severity, scores in by_severity.items())
            runner.logger.info(f'{name} ({seconds:.1f} s), top-1 by severity: {words}')
        self._set(None, 1)
        found = summary(record, self.baseline)
        metrics = {key: value for key, value in clean.items() if not key.startswith('calibration/')} | found
        record['summary'] = found
        if is_main_process():
            self._report(found)
        runner.call_hook('after_test_epoch', metrics=metrics)
        runner.call_hook('after_test')
        return metrics

    def _set(self, name: str | None, severity: int) -> None:
        for transform in self._transforms:
            transform.set(name, severity)

    @torch.no_grad()
    def _score(self, name: str | None, severity: int) -> dict[str, float]:
        """Scores of all images under a corruption; hooks see the batches of clean ones."""
        self._set(name, severity)  # workers are started anew for every pass, and see it
        for i, batch in enumerate(self.dataloader):
            if name is None:
                self.runner.call_hook('before_test_iter', batch_idx=i, data_batch=batch)
            outputs = self.runner.model.test_step(batch)
            self.evaluator.process(data_samples=outputs, data_batch=batch)
            if name is None:
                self.runner.call_hook('after_test_iter', batch_idx=i, data_batch=batch, outputs=outputs)
        return self.evaluator.evaluate(len(self.dataloader.dataset))

    def _report(self, found: dict[str, float]) -> None:
        """Log the table of errors, and write it, the data and the pictures beside the log."""
        record, logger, folder = self.record, self.runner.logger, self.runner.log_dir
        rows = []
        for name, severities in record['corrupted'].items():
            top1 = [scores['top1'] for scores in severities.values()]
            means = [np.mean([scores[key] for scores in severities.values()]) for key in ('top1', 'ece', 'nll')]
            cells = [*(f'{each:.2f}' for each in (*top1, *means[:2])), f'{means[2]:.3f}']
            rows.append([name, CORRUPTIONS[name].family, *cells])
        heads = [f'top-1, {severity}' for severity in self.severities]
        table = markdown_table(['corruption', 'family', *heads, 'top-1', 'ECE', 'NLL'], rows)
        scores = markdown_table(['score', 'value'], [[name, f'{value:.3f}'] for name, value in found.items()])
        logger.info(f'Top-1 by severity, and means:\n{table}\n\n{scores}')
        about = {
            'model': to_plain(self.runner.cfg.model.to_dict()),
            'checkpoint': self.runner.cfg.get('load_from'),
            'baseline': self.baseline_path,
            'constants': {name: CORRUPTIONS[name].constants for name in self.corruptions},
        }
        texts = {'json': json.dumps({**record, 'about': to_plain(about)}, indent=1), 'md': f'{scores}\n\n{table}'}
        for ending, text in texts.items():
            try:
                write_text_atomically(f'{text}\n', os.path.join(folder, f'{FILE}.{ending}'))
            except InputError as error:  # the scores are in the log
                logger.warning(str(error))
        self._draw(folder)

    def _draw(self, folder: str) -> None:
        # Matplotlib takes seconds to import.
        from mmmim.visualization.corruptions import draw_corruption_sheet, draw_corruptions

        try:
            draw_corruptions(self.record, self.baseline, os.path.join(folder, f'{FILE}.png'))
            for place in range(min(self.examples, len(self.dataloader.dataset))):
                pictures: dict[tuple[str | None, int], np.ndarray] = {}
                for name, severity in [(None, 1), *((n, s) for n in self.corruptions for s in self.severities)]:
                    self._set(name, severity)
                    image = self.dataloader.dataset[place]['inputs']
                    pictures[name, severity] = image.flip(0).permute(1, 2, 0).numpy()  # BGR
                draw_corruption_sheet(pictures, os.path.join(folder, f'{FILE}_{place}.png'))
        except OSError as error:  # a picture must not end a test
            self.runner.logger.warning(f'No pictures of corruptions in {folder}: {error}')
        self._set(None, 1)


def _kept(scores: dict[str, float]) -> dict[str, float]:
    """Scores of :class:`mmmim.Calibration` by their bare names."""
    return {name: float(scores[f'calibration/{name}']) for name in ('top1', 'ece', 'nll')}
