"""Labels of trained models: data sets agree, labels are classes, and what is left out is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import all_reduce
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from torch import nn
from torch.utils.data import DataLoader, get_worker_info

from mmmim.datasets.label_counts import LabelCounts, check_two_classes, count_labels, labels_of, outside
from mmmim.datasets.label_spaces import LabelSpace, check_agreement, check_num_classes, label_spaces, stored_space
from mmmim.engine.ddp import bare_model
from mmmim.evaluation.measures.losses import MeanLosses
from mmmim.models.interfaces import balances
from mmmim.registry import HOOKS
from mmmim.utils import InputError
from mmmim.utils.internals import built_loops, resumes


class CheckedCollate:
    """A collate function that first looks at the labels, in the process that loads them.

    Args:
        collate: The collate function that makes the batch.
        space: What the labels mean.
        num_classes: Number of classes, K.
        workers: Processes that load.
        repeated: Path of an image that another process counts, see :func:`repeated_image`.
    """

    def __init__(
        self, collate: Callable, space: LabelSpace, num_classes: int, workers: int, repeated: str | None = None
    ) -> None:
        self.collate, self.space, self.num_classes, self.repeated = collate, space, num_classes, repeated
        # A row for every process: nothing is lost where two count at once. Columns: classes, ignored labels, samples,
        # samples with label maps.
        self.table = torch.zeros(workers + 1, num_classes + 3, dtype=torch.int64).share_memory_()

    def __call__(self, samples: Sequence[Any]) -> Any:
        """The batch of some samples, whose labels are counted first."""
        info = get_worker_info()
        row = self.table[0 if info is None else info.id + 1]
        for sample in samples:
            found = labels_of(sample['data_samples']) if isinstance(sample, dict) and 'data_samples' in sample else None
            if found is None:
                continue
            labels, unit, file = found
            try:
                counts, ignored = count_labels(labels.numpy(), self.num_classes, self.space.ignored)
            except IndexError as error:
                raise outside(error.args[0], self.space, file, self.num_classes) from None
            if self.repeated is not None and sample['data_samples'].get('img_path') == self.repeated:
                continue
            row[:-3] += torch.from_numpy(counts)
            row[-3:] += torch.tensor([ignored, 1, unit == 'pixel'])
        with one_size(lambda: samples):
            return self.collate(samples)


@HOOKS.register_module()
class LabelsHook(Hook):
    """Compares what labels mean in training, validation and test, and says what scores leave out.

    Every :class:`mmmim.Runner` has one. Before a run it refuses data sets whose classes differ, a checkpoint that was
    trained on other classes than it is tested on, heads with fewer classes than the data, different labels to ignore,
    and label maps of which one class alone counts. Labels that are no class are refused where they are loaded. Classes
    without a label, and a large share of ignored labels, are warnings after validation, test and training, and rows
    ``dropped/...`` among the scores. A ``note`` in the metainfo of a data set is a warning and a row
    ``not_comparable``.

    Models that learn without labels are left alone, except that a validation or test of a clustering method must not
    leave a single image in its last batch.
    """

    # Before RuntimeInfoHook, which logs the scores of a validation.
    priority = 'HIGHEST'

    def __init__(self) -> None:
        self._checks: dict[str, CheckedCollate] = {}
        self._before: dict[str, torch.Tensor] = {}
        self._said: set[str] = set()
        #: What an error of the model is explained by.
        self.batch: Any = None

    def before_run(self, runner: Any) -> None:
        """Compare the labels of the data sets with each other and with the model."""
        loops = {f'{mode}_dataloader': loop for mode, loop in _loops(runner).items()}
        model = bare_model(runner)
        for key, loop in loops.items():
            if key != 'train_dataloader':
                check_last_batch(key, loop.dataloader, model, runner.world_size)
        heads = label_heads(model)
        metrics = [metric for loop in loops.values() for metric in _metrics(loop)]
        if not heads and all(isinstance(metric, MeanLosses) for metric in metrics):
            return
        sets = {f'{key}.dataset': loop.dataloader.dataset for key, loop in loops.items()}
        spaces = [space for name, dataset in sets.items() for space in label_spaces(name, dataset)]
        numbers = {f'{name}.num_classes': head.num_classes for name, head in heads.items()}
        warnings = check_agreement(spaces)
        if spaces:
            warnings += check_num_classes(next((s for s in spaces if s.classes), spaces[0]), numbers)
        for sentence in [*warnings, *(f'{space.name}: {space.note}.' for space in spaces if space.note)]:
            self._say(runner, sentence)
        self._check_ignored(spaces, heads, metrics)
        check_two_classes(*sets.items())
        for key, loop in loops.items():
            space = label_spaces(f'{key}.dataset', loop.dataloader.dataset)[0]
            number = len(space.classes) if space.classes else min(numbers.values(), default=0)
            if number:
                loader = loop.dataloader
                repeated = None if key == 'train_dataloader' else repeated_image(loader)
                loader.collate_fn = CheckedCollate(loader.collate_fn, space, number, loader.num_workers, repeated)
                self._checks[key] = loader.collate_fn

    @staticmethod
    def _check_ignored(spaces: Sequence[LabelSpace], heads: Mapping[str, nn.Module], metrics: Sequence[Any]) -> None:
        space = next((space for space in spaces if space.ignored is not None), None)
        named = [*heads.items(), *((type(metric).__name__, metric) for metric in metrics)]
        for name, part in named:
            used = getattr(part, 'ignore_index', None)
            if space is not None and used is not None and used != space.ignored:
                raise InputError(
                    f'{name} ignores label {used} and {space.name} label {space.ignored}: set ignore_index of both to '
                    'the same.'
                )

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Compare the classes that a model was trained on with those that it is tested on, or trained further on."""
        loops = _loops(runner)
        if not label_heads(bare_model(runner)) or ('train' in loops and not resumes(runner)):
            return
        meta = checkpoint.get('meta')
        stored = meta.get('dataset_meta') if isinstance(meta, Mapping) else None
        trained = stored_space('the data set that the checkpoint was trained on', stored)
        for mode, loop in loops.items():
            for space in label_spaces(f'{mode}_dataloader.dataset', loop.dataloader.dataset):
                if trained.classes is not None and space.classes is not None:
                    check_agreement([trained, space])

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the batch until the step is done."""
        self.batch = data_batch

    before_val_iter = before_test_iter = before_train_iter

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Forget the batch."""
        self.batch = None

    after_val_iter = after_test_iter = after_train_iter

    def before_val_epoch(self, runner: Any) -> None:
        """Count afresh; say what the training has ignored so far."""
        self._start('val_dataloader')
        self._report_training(runner)

    def before_test_epoch(self, runner: Any) -> None:
        """Count the labels of the test from zero."""
        self._start('test_dataloader')

    def after_val_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Say what the scores leave out."""
        self._report(runner, 'val_dataloader', metrics)

    def after_test_epoch(self, runner: Any, metrics: dict[str, Any] | None = None) -> None:
        """Say what the scores leave out."""
        self._report(runner, 'test_dataloader', metrics)

    def after_train(self, runner: Any) -> None:
        """Say what was not learned."""
        self._report_training(runner)

    def _start(self, key: str) -> None:
        if key in self._checks:
            self._before[key] = self._checks[key].table.sum(dim=0)

    def _counts(self, key: str) -> tuple[LabelCounts, int] | None:
        """Counts over all processes since the last start, and the number of samples."""
        check = self._checks.get(key)
        if check is None:
            return None
        table = check.table.sum(dim=0)
        table -= self._before.get(key, torch.zeros_like(table))
        all_reduce(table)
        ignored, samples, maps = table[-3:].tolist()
        unit = 'pixel' if maps else 'image'
        return LabelCounts(check.space, unit, table[:-3].numpy(), ignored), samples

    def _report(self, runner: Any, key: str, metrics: dict[str, Any] | None) -> None:
        found = self._counts(key)
        if found is None:
            return
        counts, _ = found
        sentences = counts.dropped()
        for sentence in sentences:
            self._say(runner, sentence)
        if sentences and metrics is not None:
            metrics['dropped/classes_without_labels'] = float(len(counts.absent))
            metrics['dropped/ignored_share'] = 100 * counts.ignored_share
        if counts.space.note and metrics is not None:
            metrics['not_comparable'] = 1.0

    def _report_training(self, runner: Any) -> None:
        found = self._counts('train_dataloader')
        if found is not None:
            counts, samples = found
            dataset = runner.train_dataloader.dataset
            # Before a pass over the data, and in a stream without an end, a class may still come.
            complete = isinstance(dataset, Sized) and samples >= len(dataset)
            for sentence in counts.dropped(absent=complete):
                self._say(runner, f'Trained on so far. {sentence}')

    def _say(self, runner: Any, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            runner.logger.warning(sentence)


def _loops(runner: Any) -> dict[str, Any]:
    """The loops that are built, by mode."""
    return {
        mode: loop
        for mode, loop in built_loops(runner).items()
        if isinstance(getattr(loop, 'dataloader', None), DataLoader)
    }


def _metrics(loop: Any) -> list[BaseMetric]:
    return list(getattr(getattr(loop, 'evaluator', None), 'metrics', ()))


def label_heads(model: nn.Module) -> dict[str, Any]:
    """Heads that tell a number of classes apart, by their key in the config."""
    heads = {}
    for name in ('decode_head', 'auxiliary_head', 'head'):
        part = getattr(model, name, None)
        several = isinstance(part, nn.ModuleList)
        parts: list[Any] = [*part] if isinstance(part, nn.ModuleList) else [part]
        for i, head in enumerate(parts):
            if isinstance(getattr(head, 'num_classes', None), int):
                heads[f'model.{name}[{i}]' if several else f'model.{name}'] = head
    return heads


def repeated_image(loader: DataLoader) -> str | None:
    """Path of the image that this process gets although another has it, so that all get as many; None without one."""
    sampler, images = loader.sampler, len(loader.dataset)
    if not isinstance(sampler, DefaultSampler) or sampler.shuffle or not hasattr(loader.dataset, 'get_data_info'):
        return None
    # As the sampler deals them out, starting again from the first where there are too few.
    last = (len(sampler) - 1) * sampler.world_size + sampler.rank
    return loader.dataset.get_data_info(last - images).get('img_path') if 0 < images <= last < 2 * images else None


def check_last_batch(key: str, loader: DataLoader, model: nn.Module, world_size: int) -> None:
    """Refuse a loader that leaves one image to a model that balances prototypes over the images of a batch.

    Args:
        key: Key of the loader in the config.
        loader: Loader of a validation or test.
        model: The model that is validated or tested.
        world_size: Processes; they have equally many images.

    Raises:
        InputError: Its last batch has a single image over all processes.
    """
    batch, images = loader.batch_size, len(loader.sampler) if loader.batch_sampler is not None else 0
    if world_size > 1 or not batch or not balances(model):
        return
    if images == 1 or (images % batch == 1 and not loader.drop_last) or batch == 1:
        better = next((b for b in range(max(batch, 2), max(images, 2) + 1) if images % b != 1), None)
        remedy = f'set {key}.batch_size={better}' if better and images > 1 else 'give it more images'
        raise InputError(
            f'{key}: {images} images in batches of {batch} leave a single image at the end, and Sinkhorn-Knopp needs '
            f'at least 2 to balance prototypes over: {remedy}, or leave the validation out (--no-validate).'
        )


@contextmanager
def one_size(samples: Callable[[], Any]) -> Iterator[None]:
    """Explain an error by images of two sizes, where ``samples`` has them.

    Args:
        samples: Gives a batch, or what becomes one, when there is an error.

    Raises:
        InputError: In the place of the error.
    """
    try:
        yield
    except (RuntimeError, AssertionError) as error:
        sizes = sorted({tuple(image.shape) for image in _images(samples())})
        if len(sizes) < 2:
            raise
        raise InputError(
            f'A batch has images of {len(sizes)} sizes, such as {sizes[0]} and {sizes[-1]} (channels, height, width): '
            'let the pipeline of the data set end in a crop or resize of fixed size (keep_ratio=False), or pad them '
            '(model.data_preprocessor.size), or set batch_size=1.'
        ) from error


def _images(batch: Any) -> list[torch.Tensor]:
    if isinstance(batch, Mapping):
        images = batch.get('inputs')
    else:
        images = [each.get('inputs') for each in batch or () if isinstance(each, Mapping)]
    return [image for image in images if hasattr(image, 'shape')] if isinstance(images, Sequence) else []
