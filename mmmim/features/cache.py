"""Features of a frozen encoder on disk: extracted once, shared by all probes.

Legend: n images, N samples of each (patches, or 1 for whole images), D width, q labels of a sample (pixels of a patch,
or 1), K classes.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, get_dist_info, is_main_process
from mmengine.logging import print_log
from torch import Tensor, nn

from mmmim.utils import InputError
from mmmim.utils.plain import to_plain
from mmmim.utils.progress import progress
from mmmim.version import __version__

from .file_states import files_digest
from .frozen import FrozenFeatures
from .stored_arrays import ArraySpec, StoredArrays, check_space
from .truths import Truth, Values, patch_size, truth_of

DTYPES = ('float16', 'float32')


@dataclass(frozen=True)
class Samples:
    """Samples of images, mapped into memory.

    Attributes:
        features: ``[n, N, D]``.
        labels: ``[n, N, q]`` in ``[0, K]``, of which one is ``ignored`` and the others are the classes in their order;
            None where they were not asked for.
        majority: The most frequent of a sample's labels, ``[n, N]``; None with ``labels``.
        num_classes: Number of classes, K.
        ignored: Label in the place of all that are ignored: K; or 0 where the data set reduces its label 0, which is
            then the smallest here as in the files, so that ties are decided as by those (CAPI, A).
        values: Values of the samples, such as depths, ``[n, N, C]``, NaN where they are not known; None where there are
            labels instead.
    """

    features: np.ndarray
    labels: np.ndarray | None = None
    majority: np.ndarray | None = None
    num_classes: int = 0
    ignored: int = 0
    values: np.ndarray | None = None

    @property
    def first(self) -> int:
        """The label of class 0."""
        return int(self.ignored == 0)

    def rows(self, images: np.ndarray) -> np.ndarray:
        """Places of the samples of some images among all ``n * N``, for arrays of :meth:`flat`."""
        per_image = self.features.shape[1]
        return (np.asarray(images)[:, None] * per_image + np.arange(per_image)).reshape(-1)

    def labelled_rows(self, images: np.ndarray) -> np.ndarray:
        """Of :meth:`rows`, those whose majority label counts, as in CAPI's evaluation (arXiv 2502.08769, A).

        Where there are values, those whose values are known.
        """
        rows = self.rows(images)
        if self.values is not None:
            return rows[np.isfinite(self.flat('values')[rows]).all(axis=1)]
        return rows[self.flat('majority')[rows] != self.ignored]

    def flat(self, name: str) -> np.ndarray:
        """An array by name, its images and samples in one dimension."""
        array = getattr(self, name)
        return array.reshape(-1, *array.shape[2:])


@dataclass(frozen=True)
class Data:
    """A data set as the cache needs it.

    Attributes:
        name: Name of the config key, for messages.
        dataset: The data set, whose pipeline gives ``inputs`` and ``data_samples`` with ``gt_sem_seg`` or ``gt_label``.
        config: What it was built from, as plain data.
        loader: Gives for indices a loader of these images in this order.
    """

    name: str
    dataset: Any
    config: dict[str, Any]
    loader: Callable[[Sequence[int]], Any]

    @property
    def num_classes(self) -> int:
        """K.

        Raises:
            InputError: The data set names no classes.
        """
        classes = self.dataset.metainfo.get('classes')
        if not classes:
            raise InputError(f'{self.name}.dataset has no classes in its metainfo: probes need to know how many.')
        return len(classes)

    @property
    def ignored(self) -> int:
        """What ignored labels become, see :class:`Samples`."""
        return 0 if self.dataset.metainfo.get('reduce_zero_label') else self.num_classes

    def key(self, store: Path | None = None, exact: bool = False) -> dict[str, Any]:
        """Config, and names, sizes and times of the files, or the pixels of images in memory.

        Args:
            store: Where hashes of many files are kept, see :func:`mmmim.features.file_states.files_digest`.
            exact: Whether to look at every file.
        """
        digest, files = hashlib.sha256(), []
        for i in range(len(self.dataset)):
            info = self.dataset.get_data_info(i)
            for kind in ('img_path', 'seg_map_path', 'depth_map_path', 'normal_map_path'):
                path = info.get(kind)
                if path:
                    files.append(str(path))
                digest.update(f'{path}\n'.encode(errors='surrogateescape'))
            if 'img' in info:  # in memory, such as CIFAR's
                digest.update(np.ascontiguousarray(info['img']))
            digest.update(f'{info.get("gt_label")}\n'.encode())
        digest.update(files_digest(files, store, exact).encode())
        return {'config': self.config, 'images': len(self.dataset), 'files': digest.hexdigest()}


@dataclass
class FeatureCache:
    """Reads features of data sets, and extracts what is not there.

    An entry is one layer of one encoder on one data set, or the labels of a data set; its name is a hash of the weights
    and the config of the encoder, the config of the data set, and names, sizes and times of its files.

    Args:
        folder: Where the entries lie.
        dtype: 'float16', or 'float32' for features beyond 65504.
        exact: Whether size and time of every file are looked at each time, not only where folders or some of the files
            have changed (:func:`mmmim.features.file_states.files_digest`).

    Raises:
        InputError: There is no such type.
    """

    folder: str = 'work_dirs/feature_cache'
    dtype: Literal['float16', 'float32'] = 'float16'
    exact: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise InputError(f'test_cfg.cache.dtype={self.dtype!r}: use {" or ".join(DTYPES)}.')

    def read(self, model: FrozenFeatures, config: Mapping[str, Any], data: Data, labels: bool) -> list[Samples]:
        """Samples of each of the model's layers.

        Args:
            model: The frozen encoder whose features are read.
            config: Config of the model, as plain data.
            data: The data set whose images are encoded.
            labels: Whether their labels are needed.

        Returns:
            By layer.

        Raises:
            InputError: Images, labels or features cannot be used, or the disk is full.
        """
        if labels and model.kind == 'tokens':
            raise InputError(
                f'model.features={model.features!r}: all tokens of an image have one label. Fitted probes read a '
                'feature of the whole image, or patches.'
            )
        layout = _Layout.of(model, data)
        n, root = len(data.dataset), Path(self.folder)
        data_key, encoder = data.key(root, self.exact), encoder_key(model, config)
        asked = [(name, layer) for name in model.names for layer in model.layers]
        stored = [
            StoredArrays(
                root,
                'features',
                {**encoder, 'config': {**encoder['config'], 'features': name}, 'layer': layer, 'data': data_key},
                {'features': ArraySpec((n, layout.samples, width), self.dtype)},
            )
            for (name, layer), width in zip(asked, layout.widths, strict=True)
        ]
        entries = stored[: len(model.layers)]
        if labels:
            truth = layout.truth
            key = {'data': data_key, **truth.key()}
            entries.append(StoredArrays(root, truth.kind, key, truth.specs(n, layout.image)))
        missing = _missing(entries)
        if missing:
            places = [i for i in missing if i < len(model.layers)]
            if places:  # the pass that is needed brings what others will need
                beside = range(len(model.layers), len(stored))
                places += [beside[i] for i in _missing([stored[i] for i in beside])]
            wanted: dict[int | None, StoredArrays] = {i: stored[i] for i in places}
            if missing[-1] == len(model.layers):
                wanted[None] = entries[-1]
            self._extract(model, data, layout, wanted, asked)
        elif is_main_process():
            print_log(f'Features of {data.name}: {n} images, from {self.folder}.', 'current')
        arrays = [entry.read() for entry in entries]
        known = arrays.pop() if labels else {}
        of_values = isinstance(layout.truth, Values)
        classes, ignored = (0, 0) if of_values else (data.num_classes, data.ignored)
        return [Samples(num_classes=classes, ignored=ignored, **found, **known) for found in arrays]

    def _extract(
        self,
        model: FrozenFeatures,
        data: Data,
        layout: _Layout,
        wanted: Mapping[int | None, StoredArrays],
        asked: Sequence[tuple[str, int]],
    ) -> None:
        """Write entries; each process takes a part of the images.

        Args:
            model: The frozen encoder.
            data: The data set whose images are encoded.
            layout: What one image becomes.
            wanted: Entries by the place of their features in what the model extracts; None for the labels.
            asked: Name and layer of these features, by their place.
        """
        rank, world = get_dist_info()
        n, grid = len(data.dataset), layout.grid
        start, stop = n * rank // world, n * (rank + 1) // world
        begin = time.perf_counter()
        places = [place for place in wanted if place is not None]
        what = 'Features' if places else 'Labels'
        if rank == 0:
            size = sum(entry.nbytes for entry in wanted.values())
            check_space(Path(self.folder), size)
            read = ', '.join(f'{asked[i][0]} of block {asked[i][1]}' for i in places)
            print_log(
                f'{what} of {data.name}: {n} images{read and f", {read}"}, {size / 2**20:.0f} MiB to {self.folder}.',
                'current',
            )
        with contextlib.ExitStack() as stack:
            # In one order in all processes: two that wait for each other's entries would wait for ever.
            in_order = sorted(wanted.items(), key=lambda item: item[1].folder)
            writers = {place: stack.enter_context(entry.write()) for place, entry in in_order}
            if not _missing(list(wanted.values())):  # another run wrote them in the meantime
                return
            loader = data.loader(range(start, stop))
            for batch in progress(loader, 'batches encoded') if rank == 0 else loader:
                # Where only labels are missing, these very images have been encoded before.
                features, found = model.extract(batch['inputs']) if places else ((), grid)
                if found != grid:
                    raise InputError(
                        f'{data.name}: images of {found[0]} x {found[1]} patches and of {grid[0]} x {grid[1]}. Probes '
                        'need images of one size: let the pipeline resize them to a square (keep_ratio=False).'
                    )
                for place in places:
                    writers[place].write('features', start, self._stored(features[place], asked[place][1]))
                if None in writers:
                    for name, rows in layout.truth.arrays(batch['data_samples']).items():
                        writers[None].write(name, start, rows)
                start += len(batch['inputs'])
            if start != stop:
                raise InputError(f'{data.name} leaves out {stop - start} images: set drop_last=False.')
        if rank == 0:
            seconds = time.perf_counter() - begin
            print_log(f'{what} of {data.name}: {seconds:.1f} s, {n / seconds:.0f} images/s.', 'current')

    def _stored(self, features: Tensor, layer: int) -> np.ndarray:
        values = features.float().cpu().numpy()
        with np.errstate(over='ignore'):
            stored = values.astype(self.dtype)
        if not np.isfinite(values).all():
            raise InputError(f'Features of block {layer} are not finite: the encoder is broken.')
        if not np.isfinite(stored).all():
            raise InputError(
                f'Features of block {layer} reach {np.abs(values).max():.3g}, more than {self.dtype} holds: set '
                "test_cfg.cache.dtype to 'float32'."
            )
        return stored


@dataclass(frozen=True)
class _Layout:
    """What one image becomes: samples, what is known of them, width of each layer."""

    image: Tensor
    grid: tuple[int, int]
    samples: int
    truth: Truth
    widths: tuple[int, ...]

    @classmethod
    def of(cls, model: FrozenFeatures, data: Data) -> _Layout:
        sample = data.dataset[0]
        image, truth = sample['inputs'], sample['data_samples']
        of_patches = model.kind == 'patches'
        if 'gt_map' in truth:
            if not of_patches:
                raise InputError(
                    f"{data.name}: values of pixels are predicted from model.features='patches', not from "
                    f'{model.features!r}.'
                )
        elif ('gt_sem_seg' if of_patches else 'gt_label') not in truth:
            needed = 'a label map (gt_sem_seg)' if of_patches else 'a class (gt_label)'
            raise InputError(
                f'{data.name}: the pipeline does not give {needed}, which model.features={model.features!r} needs.'
            )
        elif of_patches and truth.gt_sem_seg.shape != image.shape[-2:]:
            (h, w), (height, width) = truth.gt_sem_seg.shape, image.shape[-2:]
            raise InputError(
                f'{data.name}: a label map of {h} x {w} pixels beside an image of {height} x {width}: let the pipeline '
                'load the annotations before it resizes.'
            )
        features, grid = model.extract([image])
        if of_patches:
            patch_size(image.shape[-2:], grid, data)
        return cls(image, grid, features[0].shape[1], truth_of(data, grid), tuple(f.shape[2] for f in features))


def _missing(entries: Sequence[StoredArrays]) -> list[int]:
    """Which entries are to be made, as the first process sees it."""
    found: list[Any] = [None]
    if is_main_process():
        damage = {i: entry.damage() for i, entry in enumerate(entries)}
        for i, what in damage.items():
            if what and entries[i].exists():
                print_log(f'{entries[i].folder} is damaged ({what}) and made anew.', 'current', level=30)
        found = [[i for i, what in damage.items() if what]]
    broadcast_object_list(found)
    return found[0]


def samples_per_image(model: FrozenFeatures, data: Data) -> int:
    """N: samples that an image of a data set becomes."""
    return _Layout.of(model, data).samples


def encoder_key(model: FrozenFeatures, config: Mapping[str, Any]) -> dict[str, Any]:
    """What features depend on beside the images: weights, config of the model, version.

    Weights count as tensors, so that a random initialisation and both sets of weights of a checkpoint differ.
    """
    parts = [part for part in (model.backbone.backbone, model.backbone.predictor) if part is not None]
    plain = to_plain(config)
    plain.pop('also', None)
    plain['backbone'] = {k: v for k, v in plain['backbone'].items() if k not in ('checkpoint', 'out_indices', 'frozen')}
    return {
        'weights': [weights_digest(part) for part in parts],
        'encoder': [settings_digest(part) for part in parts],
        'config': plain,
        'version': __version__,
    }


def weights_digest(module: nn.Module) -> str:
    """Hash of a module's tensors and their names."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f'{name} {value.dtype} {list(value.shape)}'.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def settings_digest(module: nn.Module) -> str:
    """Hash of the settings of modules, such as the number of heads, which weights do not tell."""
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        settings = {k: v for k, v in vars(part).items() if isinstance(v, bool | int | float | str)}
        settings.pop('training')
        digest.update(f'{name} {type(part).__name__} {sorted(settings.items())}\n'.encode())
    return digest.hexdigest()
