"""Test frozen features by the labels that they carry through videos."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Annotated, Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.runner import TestLoop
from torch import Tensor

from mmmim.datasets.davis import VideoSequence, VideoSequences, palette
from mmmim.evaluation.measures.davis import ObjectScores, score_frame
from mmmim.evaluation.measures.video_objects import VideoObjectScores, score_rows, score_table, scored_objects
from mmmim.evaluation.tracking.propagation import Propagation
from mmmim.evaluation.tracking.sequences import FollowedFrame, follow
from mmmim.features.cache import encoder_key
from mmmim.features.frozen import FrozenFeatures
from mmmim.registry import LOOPS
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.options import Count, OptionsOf
from mmmim.utils.plain import to_plain
from mmmim.utils.progress import reporter

from .ddp import bare_model
from .video_results import SequenceStore

#: Changes when the same settings give other masks or scores.
VERSION = 1


@LOOPS.register_module()
class PropagationTestLoop(TestLoop):
    """Video object segmentation without training: labels of the first frame, carried on by the features of patches.

    DINO's protocol for DAVIS-2017 (arXiv 2104.14294, section 4.2.1). Masks, scores, tables and contact sheets go to a
    folder ``propagation-...`` of the work folder, named by encoder, weights, data and settings; sequences that are done
    are not done again. Of several layers (``model.backbone.out_indices``) each has a folder and is scored by itself,
    and the names of its scores begin with ``layer_<index>/``. Several processes share the sequences.

    Args:
        runner: The runner; its model is a :class:`mmmim.FrozenFeatures` of patches.
        dataloader: Loader whose data set has videos, such as :class:`mmmim.DAVIS2017`, or its config.
        evaluator: Evaluator with a :class:`mmmim.VideoObjectScores`, or its config.
        propagation: Settings of :class:`mmmim.evaluation.tracking.propagation.Propagation`.
        short_side: Short side of frames for the encoder in pixels; None for frames at their own size.

    Raises:
        InputError: Data set, model or evaluator is of another kind, or a file cannot be used.
    """

    #: Tests of this kind need no trained head.
    fits = True

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        evaluator: Any,
        propagation: Annotated[dict | None, OptionsOf(Propagation)] = None,
        short_side: Count | None = 480,
    ) -> None:
        super().__init__(runner, dataloader, evaluator)
        self.how = Propagation(**(propagation or {}))
        self.short_side = short_side
        #: By layer ``layer``, ``setting`` (empty), ``scores`` and ``folder``.
        self.records: list[dict[str, Any]] = []

    def run(self) -> dict[str, float]:
        """Carry labels through all videos and score them."""
        runner = self.runner
        runner.call_hook('before_test')
        runner.call_hook('before_test_epoch')
        runner.model.eval()
        model = self._check()
        encoder = encoder_key(model, runner.cfg.model.to_dict())
        stores = [SequenceStore(runner.work_dir, self._key(encoder, layer)) for layer in model.layers]
        metrics: dict[str, float] = {}
        self.records = []
        for layer, store, samples in zip(model.layers, stores, self._follow_all(model, stores), strict=True):
            self.evaluator.process(data_samples=samples, data_batch=None)
            scores = self.evaluator.evaluate(len(self.dataloader.dataset))
            # There is nothing to choose, which is what a sweep over layers asks for.
            self.records.append({'layer': layer, 'setting': {}, 'scores': scores, 'folder': str(store.folder)})
            if is_main_process():
                self._report(layer, store)
            prefix = f'layer_{layer}/' if len(model.layers) > 1 else ''
            metrics |= {f'{prefix}{key}': value for key, value in scores.items()}
        runner.call_hook('after_test_epoch', metrics=metrics)
        runner.call_hook('after_test')
        return metrics

    def _check(self) -> FrozenFeatures:
        """The model; refuses what cannot be tested so."""
        model, dataset = bare_model(self.runner), self.dataloader.dataset
        if not isinstance(model, FrozenFeatures) or model.kind != 'patches':
            raise InputError(
                'mmmim.PropagationTestLoop carries labels from patch to patch: model.type must be '
                f"'mmmim.FrozenFeatures' and model.features 'patches', and they are {type(model).__name__} and "
                f'{getattr(model, "features", None)!r}.'
            )
        if not isinstance(dataset, VideoSequences):
            raise InputError(
                f'mmmim.PropagationTestLoop tests videos: test_dataloader.dataset is a {type(dataset).__name__} and '
                'must be mmmim.DAVIS2017 or mmmim.MovingFashion.'
            )
        if not any(isinstance(metric, VideoObjectScores) for metric in self.evaluator.metrics):
            raise InputError("mmmim.PropagationTestLoop needs test_evaluator=dict(type='mmmim.VideoObjectScores').")
        return model

    def _key(self, encoder: dict[str, Any], layer: int) -> dict[str, Any]:
        """What masks of a layer depend on, beside the files of a sequence."""
        data = to_plain(self.runner.cfg.test_dataloader.dataset.to_dict())
        data.pop('indices', None)  # how many sequences there are changes none of them
        settings = {'propagation': asdict(self.how), 'short_side': self.short_side, 'layer': layer, 'loop': VERSION}
        return {'encoder': encoder, 'data': data, **settings}

    def _follow_all(self, model: FrozenFeatures, stores: Sequence[SequenceStore]) -> list[list[dict[str, Any]]]:
        """Of each layer what the evaluator takes of the sequences of this process, done now or before."""
        dataset = self.dataloader.dataset
        sequences = [dataset[i] for batch in self.dataloader.batch_sampler for i in batch]
        lacking = [[i for i, store in enumerate(stores) if store.load(each) is None] for each in sequences]
        frames = [len(each.frames) if layers else 0 for each, layers in zip(sequences, lacking, strict=True)]
        if done := sum(not layers for layers in lacking):
            self.runner.logger.info(f'{done} of {len(sequences)} sequences were done before.')
        report = reporter('frames')
        found: list[list[dict[str, Any]]] = [[] for _ in stores]
        for place, (sequence, layers) in enumerate(zip(sequences, lacking, strict=True)):
            self.runner.call_hook('before_test_iter', batch_idx=place, data_batch=None)
            if layers:
                seen = partial(_seen, report, sum(frames[:place]), sum(frames))
                self._follow(model, sequence, layers, stores, seen)
            outputs = [_sample(store, sequence) for store in stores]
            for samples, output in zip(found, outputs, strict=True):
                samples.append(output)
            self.runner.call_hook('after_test_iter', batch_idx=place, data_batch=None, outputs=outputs)
        return found

    def _follow(
        self,
        model: FrozenFeatures,
        sequence: VideoSequence,
        layers: Sequence[int],
        stores: Sequence[SequenceStore],
        report: Callable[[int], None],
    ) -> None:
        """Follow the objects of a sequence by some layers, by their places; write masks, pictures and scores."""

        def extract(images: Sequence[Tensor]) -> tuple[list[Tensor], tuple[int, int]]:
            features, grid = model.extract(images)
            return [features[i] for i in layers], grid

        # A picture is a report, and its library takes a second to import.
        from mmmim.visualization.contact_sheet import shown_frames

        start = time.perf_counter()
        headings = shown_frames(len(sequence.frames))
        shown: list[FollowedFrame] = []
        scores: list[list[tuple[np.ndarray, np.ndarray]]] = [[] for _ in layers]
        about: dict[str, Any] = {}
        with ExitStack() as stack:
            writers = [stack.enter_context(stores[i].masks(sequence)) for i in layers]
            patch_size = model.backbone.backbone.patch_size
            for frame in follow(sequence, extract, patch_size, self.how, self.short_side):
                for masks, writer, series in zip(frame.predicted, writers, scores, strict=True):
                    writer.write(frame.stem, masks)
                    if 0 < frame.number < len(sequence.frames) - 1:
                        series.append(score_frame(frame.annotated, masks, frame.objects))
                if frame.number in headings:
                    shown.append(frame)
                about = {'input': list(frame.input_size), 'grid': list(frame.grid)}
                report(frame.number + 1)
        about['seconds'] = time.perf_counter() - start
        for place, (layer, series) in enumerate(zip(layers, scores, strict=True)):
            found = ObjectScores.of_frames(series)
            self._draw(stores[layer], sequence, [(headings[f.number], f, f.predicted[place]) for f in shown], found)
            stores[layer].save(sequence, found, about)

    def _draw(
        self,
        store: SequenceStore,
        sequence: VideoSequence,
        shown: Sequence[tuple[str, FollowedFrame, np.ndarray]],
        scores: ObjectScores,
    ) -> None:
        """The contact sheet of a sequence; what goes wrong with it is a warning."""
        from mmmim.visualization.contact_sheet import SegmentedFrame, draw_contact_sheet

        region, contour = (100 * each.mean() for each in (scores.region, scores.contour))
        title = f'{sequence.name}, {len(scores.region)} object(s): J {region:.1f}, F {contour:.1f}'
        frames = [
            SegmentedFrame(frame.image[..., ::-1], frame.annotated, masks, heading) for heading, frame, masks in shown
        ]
        try:
            draw_contact_sheet(frames, palette(), store.sheet(sequence), title)
        except OSError as error:
            self.runner.logger.warning(f'No contact sheet of {sequence.name}: {error}')

    def _report(self, layer: int, store: SequenceStore) -> None:
        """Write the tables, and say in the log what was scored and how."""
        metric = next(each for each in self.evaluator.metrics if isinstance(each, VideoObjectScores))
        objects = scored_objects(metric.sequences)
        rows = score_rows(objects)
        settings = {**asdict(self.how), 'short_side': self.short_side}
        sizes = sorted({(*each['about']['input'], *each['about']['grid']) for each in metric.sequences})
        table = {'layer': layer, 'settings': settings, 'inputs': sizes, 'rows': rows}
        inputs = '; '.join(f'{height} x {width} pixels as {h} x {w} patches' for height, width, h, w in sizes)
        how = ', '.join(f'{name}={value}' for name, value in settings.items())
        text = f'Block {layer}, {how}; frames of {inputs}.'
        write_text_atomically(json.dumps(table, indent=1) + '\n', store.table('json'))
        write_text_atomically(f'{text}\n\nIn per cent:\n\n{score_table(rows)}\n', store.table('md'))
        scores = ', '.join(f'{name} {value:.1f}' for name, value in rows[-1].items() if name != 'name')
        self.runner.logger.info(f'{text}\n{len(objects)} objects: {scores}. Masks and tables: {store.folder}')


def _seen(report: Callable[[int, int], None], before: int, total: int, frames: int) -> None:
    """Report the frames of a sequence, and those of the sequences before it."""
    report(before + frames, total)


def _sample(store: SequenceStore, sequence: VideoSequence) -> dict[str, Any]:
    """What the evaluator takes of a sequence that is done."""
    loaded = store.load(sequence)
    if loaded is None:
        raise InputError(f'{store.folder} has lost sequence {sequence.name!r}, which was done: start again.')
    scores, about = loaded
    # Lists, as processes exchange them.
    statistics = [[list(region), list(contour)] for region, contour in scores.statistics()]
    return {'name': sequence.name, 'statistics': statistics, 'about': about}
