"""Test what the patches of a frozen encoder show without labels and without a head."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.runner import TestLoop

from mmmim.checkpoints.pretrained import RANDOM
from mmmim.evaluation.label_free.methods import LabelFreeMethod
from mmmim.features.frozen_patches import FrozenPatches
from mmmim.features.truths import ignore_index
from mmmim.registry import LOOPS, MODELS, PROBES
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.options import Seed
from mmmim.utils.plain import to_plain
from mmmim.utils.tables import markdown_table

from .ddp import bare_model

#: Written beside the log, with the endings of data and of a table.
FILE = 'label_free'
#: What the encoders of a test are called.
GIVEN, BESIDE = 'pretrained', 'random'


@LOOPS.register_module()
class LabelFreeTestLoop(TestLoop):
    """A test of what is found in images without learning: objects or clusters, one image at a time, of any size.

    Beside the encoder the same one with random weights is tested: the shape of the patches and their positions alone
    find something. Its scores begin with ``random/``.

    Several processes divide the images.

    Args:
        runner: The runner; its model is a :class:`mmmim.FrozenPatches`.
        dataloader: Loader of the images, or its config.
        evaluator: Evaluator of what is found, or its config.
        probe: Config of what finds, such as ``mmmim.TokenCut``.
        random: Whether random weights are tested, too.
        seed: Seed of the random weights.

    Raises:
        InputError: The config names something else.
    """

    #: Tests of this kind need no trained head.
    fits = True

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        evaluator: Any,
        probe: dict[str, Any],
        random: bool = True,
        seed: Seed = 0,
    ) -> None:
        super().__init__(runner, dataloader, evaluator)
        method = PROBES.build(probe)
        if not isinstance(method, LabelFreeMethod):
            raise InputError(
                f'mmmim.LabelFreeTestLoop takes what finds without labels, such as mmmim.TokenCut, not '
                f'{type(method).__name__}: that is of mmmim.FitTestLoop.'
            )
        self.probe, self.random, self.seed = method, random, seed
        #: Scores by encoder.
        self.scores: dict[str, dict[str, float]] = {}

    def run(self) -> dict[str, float]:
        """Find and score."""
        runner = self.runner
        runner.call_hook('before_test')
        runner.call_hook('before_test_epoch')
        runner.model.eval()
        model = bare_model(runner)
        if not isinstance(model, FrozenPatches):
            raise InputError(
                f"mmmim.LabelFreeTestLoop tests model.type='mmmim.FrozenPatches', not {type(model).__name__}."
            )
        model.check(self.probe.reading)
        self.scores = {name: self._score(name, each) for name, each in self._models(model)}
        given, *beside = self.scores
        metrics = dict(self.scores[given])
        metrics |= {f'{name}/{key}': value for name in beside for key, value in self.scores[name].items()}
        if is_main_process():
            self._report()
        runner.call_hook('after_test_epoch', metrics=metrics)
        runner.call_hook('after_test')
        return metrics

    def _models(self, model: FrozenPatches) -> Iterator[tuple[str, FrozenPatches]]:
        """The encoder, and then one with random weights."""
        config = self.runner.cfg.model.to_dict()
        is_random = config['backbone'].get('checkpoint') == RANDOM
        yield (BESIDE if is_random else GIVEN), model
        if self.random and not is_random:
            config['backbone'] |= {'checkpoint': RANDOM, 'weights': 'auto'}
            with torch.random.fork_rng():
                torch.manual_seed(self.seed)
                beside = MODELS.build(config)
            yield BESIDE, beside.to(next(model.parameters()).device).eval()

    def _score(self, name: str, model: FrozenPatches) -> dict[str, float]:
        """Scores of one encoder over all images."""
        ignored = ignore_index(self.dataloader.dataset)
        for i, batch in enumerate(self.dataloader):
            self.runner.call_hook('before_test_iter', batch_idx=i, data_batch=batch)
            for image, sample in zip(batch['inputs'], batch['data_samples'], strict=True):
                _check_size(image, sample)
                read = model.read(image, self.probe.reading)
                sample.set_field(self.probe.find(read, sample, ignored), 'found')
                sample.set_metainfo({'encoder': name})
            self.evaluator.process(data_samples=batch['data_samples'], data_batch=batch)
            self.runner.call_hook('after_test_iter', batch_idx=i, data_batch=batch, outputs=batch['data_samples'])
        return self.evaluator.evaluate(len(self.dataloader.dataset))

    def _report(self) -> None:
        """Log the table of scores, and write it and the data beside the log."""
        cfg, logger = self.runner.cfg, self.runner.logger
        rows = [[name, *map(_number, scores.values())] for name, scores in self.scores.items()]
        table = markdown_table(['encoder', *next(iter(self.scores.values()))], rows)
        logger.info(f'{type(self.probe).__name__}, block {bare_model(self.runner).block}:\n{table}')
        record = {
            'method': type(self.probe).__name__,
            'options': cfg.test_cfg.probe.to_dict(),
            'model': cfg.model.to_dict(),
            'dataset': cfg.test_dataloader.dataset.to_dict(),
            'scores': self.scores,
        }
        for ending, text in (('json', json.dumps(to_plain(record), indent=1)), ('md', table)):
            try:
                write_text_atomically(f'{text}\n', os.path.join(self.runner.log_dir, f'{FILE}.{ending}'))
            except InputError as error:  # the scores are in the log
                logger.warning(str(error))


def _check_size(image: Any, sample: Any) -> None:
    """Boxes and label maps are of the image as it was read.

    Raises:
        InputError: The pipeline has resized it.
    """
    read = tuple(sample.metainfo.get('ori_shape') or image.shape[-2:])
    if read[:2] != tuple(image.shape[-2:]):
        raise InputError(
            f'The pipeline of the data makes {image.shape[-2]} x {image.shape[-1]} pixels of {read[0]} x {read[1]}, '
            'and what is found is compared with the image as it was read: resize by model.resize.'
        )


def _number(value: Any) -> str:
    return str(value) if isinstance(value, int) else f'{value:.2f}'
