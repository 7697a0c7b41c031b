"""Fit a probe on frozen features and test it."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.runner import TestLoop

from mmmim.evaluation.probes.fitted import Probe, Setting, number_text, setting_text
from mmmim.evaluation.probes.procedure import fit_chosen, held_out_images
from mmmim.evaluation.probes.selection import first_best
from mmmim.features.cache import Data, FeatureCache, Samples, samples_per_image
from mmmim.features.frozen import FrozenFeatures
from mmmim.features.truths import ignore_index
from mmmim.registry import LOOPS, PROBES
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.options import InnerShare, OptionsOf, Seed
from mmmim.utils.plain import to_plain
from mmmim.utils.tables import markdown_table

from .ddp import bare_model
from .fitted_tasks import Classes, PixelValues

#: Written beside the log.
FILE = 'probe.json'


@LOOPS.register_module()
class FitTestLoop(TestLoop):
    """A test that starts by fitting a probe: nothing is trained before, and no checkpoint of a head is needed.

    Features of the images of ``fit_dataloader`` (a key of the config) and of the test images come from a cache on disk.
    The probe's grid is scored on images held out from the first, the best setting is fitted on all of them, and its
    predictions go to hooks and evaluator as those of a model would. Without such a choice every setting is tested, and
    the names of its scores begin with it, as in ``k_10/``; hooks see the first. Of several layers
    (``model.backbone.out_indices``) each is tested by itself, and the names of its scores begin with
    ``layer_<index>/``.

    Probes that leave one out (``probe.leave_one_out``) are fitted on the test images; the names of their scores begin
    with ``leave_one_out/``, and the images of ``fit_dataloader`` are not read.

    Several processes share the work: images to extract, rows of a regression, queries of k-NN.

    Args:
        runner: The runner; its model is a :class:`mmmim.FrozenFeatures`.
        dataloader: Loader of the test images, or its config.
        evaluator: Evaluator of the predictions, or its config.
        probe: Config of a probe, such as ``mmmim.KNNProbe``.
        held_out: Share of the images for fitting that choose the setting.
        choose_by: Score that chooses: 'mIoU', or 'aAcc', the share of correct labels; of values 'rmse', or 'angle', the
            mean angle between vectors, both over the patches; None to test every setting.
        seed: Seed of the choice of the images held out.
        cache: Arguments of :class:`mmmim.features.cache.FeatureCache`.

    Raises:
        InputError: The config lacks what is needed or contradicts itself, data set and metrics ignore different labels,
            the classes of the two data sets differ, or there are too few images or classes.
    """

    #: Tests of this kind need no trained head.
    fits = True

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        evaluator: Any,
        probe: dict[str, Any],
        held_out: InnerShare = 0.1,
        choose_by: Literal['mIoU', 'aAcc', 'rmse', 'angle'] | None = 'mIoU',
        seed: Seed = 0,
        cache: Annotated[dict | None, OptionsOf(FeatureCache)] = None,
    ) -> None:
        if runner.cfg.get('fit_dataloader') is None:
            raise InputError('mmmim.FitTestLoop needs the images to fit on: fit_dataloader=dict(...) in the config.')
        super().__init__(runner, dataloader, evaluator)
        self.probe: Probe = PROBES.build(probe)
        if not isinstance(self.probe, Probe):
            raise InputError(
                f'mmmim.FitTestLoop takes a probe that is fitted, such as mmmim.KNNProbe, not '
                f'{type(self.probe).__name__}: that is of mmmim.LabelFreeTestLoop.'
            )
        if choose_by is not None and choose_by not in self.probe.criteria:
            raise InputError(
                f'test_cfg.choose_by={choose_by!r} is no score of mmmim.{type(self.probe).__name__}: use '
                f'{" or ".join(map(repr, self.probe.criteria))}, or None to test every setting.'
            )
        self.task = (PixelValues if self.probe.of_values else Classes)(self.probe, runner.logger.warning)
        self.held_out, self.choose_by, self.seed = held_out, choose_by, seed
        if choose_by is not None and len(self.probe.grid) > 1 and self.probe.leave_one_out:
            raise InputError(
                'test_cfg.probe.leave_one_out=True has no images to choose a setting by: set test_cfg.choose_by=None, '
                'which tests every setting, or give a single one.'
            )
        self.cache = FeatureCache(**(cache or {}))
        #: By layer ``layer``, ``setting``, ``grid``, ``scores`` and ``seconds``.
        self.records: list[dict[str, Any]] = []
        self._check_ignored()

    def run(self) -> dict[str, float]:
        """Fit and test."""
        runner = self.runner
        runner.call_hook('before_test')
        runner.call_hook('before_test_epoch')
        runner.model.eval()
        model = bare_model(runner)
        if not isinstance(model, FrozenFeatures):
            raise InputError(f"mmmim.FitTestLoop tests model.type='mmmim.FrozenFeatures', not {type(model).__name__}.")
        self.device = next(model.parameters()).device
        config = runner.cfg.model.to_dict()
        tested = self._data('test_dataloader', self.dataloader.dataset)
        fit = tested if self.probe.leave_one_out else self._data('fit_dataloader', None)
        self._check_data(model, fit, tested)
        train = self.cache.read(model, config, fit, labels=True)
        if is_main_process():
            self.task.say_dropped(fit, train[0])
        test = train if tested is fit else self.cache.read(model, config, tested, labels=False)
        metrics: dict[str, float] = {}
        self.records = []
        for layer, *samples in zip(model.layers, train, test, strict=True):
            of = f'Block {layer}' if model.backbone.features[0].of_a_block else f'Feature {model.features}'
            record = {'layer': layer, **self._fit_and_test(of, *samples)}
            self.records.append(record)
            prefix = f'layer_{layer}/' if len(model.layers) > 1 else ''
            metrics |= {f'{prefix}{key}': value for key, value in record['scores'].items()}
            if is_main_process():
                try:
                    write_text_atomically(json.dumps(to_plain(self.records), indent=1) + '\n', self.report_path)
                except InputError as error:  # the scores are in the log
                    runner.logger.warning(str(error))
        runner.call_hook('after_test_epoch', metrics=metrics)
        runner.call_hook('after_test')
        return metrics

    @property
    def report_path(self) -> str:
        """The file of :attr:`records`."""
        return os.path.join(self.runner.log_dir, FILE)

    def _data(self, name: str, dataset: Any) -> Data:
        """A data set, built if it is None, and how to load parts of it."""
        runner = self.runner
        config = dict(runner.cfg[name])

        def loader(indices: Sequence[int]) -> Any:
            return runner.build_dataloader({**config, 'dataset': dataset, 'sampler': indices})

        if dataset is None:
            dataset = runner.build_dataloader({**config, 'sampler': range(0)}).dataset
        plain = to_plain(runner.cfg[name].dataset.to_dict())
        return Data(name, dataset, plain, loader)

    def _check_data(self, model: FrozenFeatures, fit: Data, test: Data) -> None:
        """Refuse what cannot be fitted or scored, before features are extracted."""
        self.task.check(model, fit, test)
        images = np.arange(len(fit.dataset))
        if self.choose_by is not None and len(self.probe.grid) > 1:
            images, _ = held_out_images(len(images), self.held_out, self.seed)
        self.probe.check(len(images) * samples_per_image(model, fit))

    def _fit_and_test(self, of: str, train: Samples, test: Samples) -> dict[str, Any]:
        """Setting, grid and scores of a feature, which the log calls ``of``."""
        probe, logger = self.probe, self.runner.logger
        number, start = len(train.features), time.perf_counter()
        by = None if probe.leave_one_out else self.choose_by

        def told(grid: list[dict[str, Any]]) -> None:
            logger.info(
                f'{of}: fitted on {1 - self.held_out:.0%} of {number} images and scored on the others '
                f'({time.perf_counter() - start:.1f} s):\n{_table(grid, str(self.choose_by), probe)}'
            )

        settings, grid = fit_chosen(probe, train, self.device, by, self.held_out, self.seed, told)
        scores = self._test(test, settings)
        seconds = time.perf_counter() - start
        setting = settings[0] if len(settings) == 1 else {}
        what = setting_text(setting) if setting else f'{len(settings)} settings'
        how = 'each image by the others' if probe.leave_one_out else 'fitted on all images'
        logger.info(
            f'{of}, {what}, {how} ({seconds:.1f} s in all): '
            + ', '.join(f'{key} {_score_text(key, value)}' for key, value in scores.items())
        )
        return {'setting': setting, 'grid': grid, 'scores': scores, 'seconds': seconds}

    def _test(self, test: Samples, settings: Sequence[Setting]) -> dict[str, float]:
        """Predict the images of this process by every setting, and run through its loader."""
        batches = [list(batch) for batch in self.dataloader.batch_sampler]
        images = np.array([i for batch in batches for i in batch])
        per_image, task, dataset = test.features.shape[1], self.task, self.dataloader.dataset
        chunks = [[task.compact(each, test) for each in found] for found in self.probe.predict(test, images)]
        predictions = [iter(torch.cat(found).unflatten(0, (-1, per_image))) for found in zip(*chunks, strict=True)]
        evaluators = [self.evaluator, *(copy.deepcopy(self.evaluator) for _ in settings[1:])]
        for i, batch in enumerate(self.dataloader):
            self.runner.call_hook('before_test_iter', batch_idx=i, data_batch=batch)
            for evaluator, found in reversed(list(zip(evaluators, predictions, strict=True))):  # hooks see the first
                outputs = [task.output(sample, next(found), test, dataset) for sample in batch['data_samples']]
                evaluator.process(data_samples=outputs, data_batch=batch)
            self.runner.call_hook('after_test_iter', batch_idx=i, data_batch=batch, outputs=outputs)
        scores: dict[str, float] = {}
        for setting, evaluator in zip(settings, evaluators, strict=True):
            prefix = 'leave_one_out/' if self.probe.leave_one_out else ''
            if self.choose_by is None:
                prefix += '_'.join(f'{name}_{number_text(value)}' for name, value in setting.items()) + '/'
            found = evaluator.evaluate(len(self.dataloader.dataset))
            scores |= {f'{prefix}{name}': value for name, value in found.items()}
        return scores

    @property
    def _ignored(self) -> int | None:
        return ignore_index(self.dataloader.dataset)

    def _check_ignored(self) -> None:
        """Labels to ignore are those of the data set."""
        for metric in self.evaluator.metrics:
            used = getattr(metric, 'ignore_index', self._ignored)
            if used != self._ignored:
                raise InputError(
                    f'{type(metric).__name__} ignores label {used} and the data set {self._ignored}: set ignore_index '
                    'of both to the same.'
                )
        self.evaluator.dataset_meta = {**self.dataloader.dataset.metainfo, 'ignore_index': self._ignored}


def _table(grid: Sequence[Mapping[str, Any]], by: str, probe: Probe) -> str:
    """The scores of a grid; a star at the best."""
    sign = probe.sign(by)
    best = first_best([sign * row[by] for row in grid])
    lines = []
    for i, row in enumerate(grid):
        cells = [number_text(v) if key in probe.grid[0] else _score_text(key, v) for key, v in row.items()]
        lines.append([*cells, '*' if i == best else ''])
    return markdown_table([*grid[0], ''], lines)


def _score_text(name: str, value: float) -> str:
    """Three digits of metres and shares, two of percentages and degrees."""
    return f'{value:.3f}' if name.rpartition('/')[2] in ('rmse', 'abs_rel') else f'{value:.2f}'
