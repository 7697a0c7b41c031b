"""Features of many image files into one file: with bounded memory, by several processes, and on where it broke off.

While it is made, rows lie in a folder beside the file, ``OUT.partial``: ``rows.npy`` has the row of every image, and
``state.npy`` which of them are there. A row counts only once it is on the disk. The file itself is put together at the
end, and has its name when all of it is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from mmmim.datasets.transforms.loading import UnreadableImageError, read_image
from mmmim.models.layers import layer_index
from mmmim.utils import InputError
from mmmim.utils.atomic import disk_error, write_text_atomically
from mmmim.utils.names import printable
from mmmim.utils.progress import reporter
from mmmim.version import __version__

from .extractor import FeatureExtractor
from .feature_files import Rows, format_of, read_facts
from .image_files import check_has, square_loader
from .names import FeatureName
from .stored_arrays import ArraySpec, Writer, lock_folder

#: Seconds of work that are lost at most.
SAVE_SECONDS = 10.0
#: What stands for an image in ``state.npy``.
_WAITS, _DONE, _UNREADABLE = range(3)
#: Facts that do not decide what is in a file.
_INDIFFERENT = {'version', 'checkpoint', 'images', 'unreadable'}
#: Paths that a sentence names.
_NAMED = 10


@dataclass(frozen=True)
class Reading:
    """What is read of every image.

    Attributes:
        model: The encoder of the images, with its normalisation.
        feature: Name of the feature.
        layers: Blocks that it is read of, counted from 0 or from the end; None for the last one, or for those that the
            name has.
        size: Side of the square images in pixels, which the patch size divides.
        dtype: 'float32' or 'float16', of what is stored; it is computed in the precision of the model.

    Raises:
        InputError: There is no such feature or block, the model does not have it, or the name and ``layers`` both say
            which blocks.
    """

    model: FeatureExtractor
    feature: str
    layers: Sequence[int] | None
    size: int
    dtype: str

    def __post_init__(self) -> None:
        name, depth = self.name, self.model.backbone.depth
        if self.layers is not None and not name.of_a_block:
            raise InputError(f'The feature {self.feature!r} says itself what it is of: leave --layers out.')
        if len({layer_index(layer, depth) for layer in self.layers or ()}) < len(self.layers or ()):
            raise InputError(f'--layers {" ".join(map(str, self.layers or ()))} has a block twice.')

    @property
    def name(self) -> FeatureName:
        """The name of the feature, read into its parts."""
        return FeatureName.of(self.feature)

    def __call__(self, images: Tensor) -> np.ndarray:
        """Rows ``[B, ...]`` of uint8 images ``[B, C, H, W]``; of several layers ``[B, L, ...]``."""
        of_layers = list(self.layers or [-1])
        layers = [*self.name.blocks, *of_layers]
        features = self.model(self.model.preprocess(images), layers)
        check_has(features, [self.feature])
        found = [features.read(self.name, place - len(of_layers)) for place in range(len(of_layers))]
        values = found[0] if len(found) == 1 else torch.stack(found, dim=1)
        rows = values.float().cpu().numpy()
        if self.dtype == 'float16' and np.abs(rows).max(initial=0) > np.finfo(np.float16).max:
            raise InputError(f'The feature {self.feature} has values that float16 cannot hold: give --dtype float32.')
        return rows.astype(self.dtype)

    def shape(self) -> tuple[int, ...]:
        """Of the row of an image."""
        return self(torch.zeros(1, self.model.in_channels, self.size, self.size, dtype=torch.uint8)).shape[1:]

    def facts(self) -> dict[str, Any]:
        """What it is, as JSON data."""
        depth, preprocessor = self.model.backbone.depth, self.model.preprocessor
        named = None if self.layers is None and not self.name.of_a_block else self.layers or [-1]
        axes = {'vector': ['channel'], 'patches': ['patch', 'channel'], 'tokens': ['token', 'channel']}
        layer = ['layer'] if self.layers is not None and len(self.layers) > 1 else []
        return {
            'encoder': self.model.config['backbone'],
            'feature': self.feature,
            'layers': None if named is None else [layer_index(each, depth) for each in named],
            'size': self.size,
            'preprocessing': {
                'resize': f'shorter side to {self.size} pixels, bicubic, antialiased',
                'crop': f'central square of {self.size} pixels',
                'mean': preprocessor.mean.flatten().tolist(),
                'std': preprocessor.std.flatten().tolist(),
            },
            'dtype': self.dtype,
            'axes': ['image', *layer, *axes.get(self.name.kind, ['channel', 'row', 'column'])],
        }


@dataclass
class Extraction:
    """Features of image files into a file.

    Args:
        reading: What is read of every image.
        paths: Paths of the images, relative to ``root``.
        root: Where they lie; '' for the current folder.
        out: The file that is written.
        about: Further facts as JSON data: of the weights.
    """

    reading: Reading
    paths: list[str]
    root: str
    out: Path
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.format = format_of(self.out)
        self.partial = self.out.with_name(f'{self.out.name}.partial')
        self._lock: IO[str] | None = None
        names = '\0'.join(self.paths)
        try:
            digest = hashlib.sha256(names.encode()).hexdigest()
        except UnicodeEncodeError:
            bad = next(name for name in self.paths if not _is_unicode(name))
            raise InputError(f'The name of the image {printable(bad)} is not of UTF-8: rename it.') from None
        self.facts = {
            'version': __version__,
            **self.about,
            **self.reading.facts(),
            'root': os.path.abspath(self.root),
            'images': len(self.paths),
            'paths_sha256': digest,
        }
        shape = (len(self.paths), *self.reading.shape())
        self.arrays = {'rows': ArraySpec(shape, self.reading.dtype), 'state': ArraySpec(shape[:1], 'uint8')}

    def prepare(self) -> np.ndarray | None:
        """Make the folder of the parts, or go on with one; by one process, which then holds a lock of it.

        Returns:
            Places of the images that are still to be read; None where the file is there already.

        Raises:
            InputError: File or folder are of another call, or there is no room for them.
        """
        if self._is_made():
            return None
        try:
            self._lock = lock_folder(self.partial)
            if self._is_made():  # by another process, meanwhile
                self.clean()
                return None
            if not (self.partial / 'call.json').is_file():
                self._check_space()
                for name, spec in self.arrays.items():
                    np.lib.format.open_memmap(self.partial / f'{name}.npy', 'w+', np.dtype(spec.dtype), spec.shape)
                write_text_atomically(json.dumps(self.facts, indent=1) + '\n', self.partial / 'call.json')
            else:
                self._compare(json.loads((self.partial / 'call.json').read_text()), self.partial, 'begun')
        except OSError as error:
            raise self._failed(error) from error
        todo = np.flatnonzero(self._open('state') != _DONE)
        if len(todo) < len(self.paths):
            print(f'{self.partial}: {len(self.paths) - len(todo)} of {len(self.paths)} images are there.', flush=True)
        return todo

    def run(self, todo: np.ndarray, batch_size: int, workers: int, show: bool = True) -> None:
        """Read images and write their rows.

        Args:
            todo: Places of the images; no other process has any of them.
            batch_size: Images that are encoded at a time.
            workers: Processes that read images; 0 for this one.
            show: Whether to print progress.

        Raises:
            InputError: The disk is full.
        """
        reading, report = self.reading, reporter('images')
        paths = [os.path.join(self.root, self.paths[place]) for place in todo]
        loader = square_loader(paths, reading.size, reading.model, batch_size, workers)
        try:
            writer = Writer(self.partial, self.arrays)
            try:
                states: dict[int, int] = {}
                done, saved = 0, time.monotonic()
                for samples in loader:
                    good = [(todo[index], image) for index, image in samples if not isinstance(image, str)]
                    states |= {todo[index]: _UNREADABLE for index, image in samples if isinstance(image, str)}
                    if good:
                        rows = reading(torch.from_numpy(np.stack([image for _, image in good])).permute(0, 3, 1, 2))
                        for (place, _), row in zip(good, rows, strict=True):
                            writer.write('rows', place, row[None])
                            states[place] = _DONE
                    if time.monotonic() - saved >= SAVE_SECONDS:
                        _save(writer, states)
                        saved = time.monotonic()
                    done += len(samples)
                    if show:
                        report(done, len(todo))
                _save(writer, states)
            finally:
                with contextlib.suppress(OSError):  # what was read before a signal
                    _save(writer, states)
                writer.close()
        except UnreadableImageError:
            raise
        except OSError as error:
            raise self._failed(error) from error

    def finish(self) -> str:
        """Put the file together, when all processes have written their rows; by the one that has prepared it.

        Returns:
            A sentence about it, and about images that are left out.

        Raises:
            InputError: No image could be read, or the disk is full.
        """
        state = self._open('state')
        if (state == _WAITS).any():
            raise InputError(f'{int((state == _WAITS).sum())} images are missing in {self.partial}: call again.')
        kept, bad = np.flatnonzero(state == _DONE), [self.paths[place] for place in np.flatnonzero(state != _DONE)]
        if not len(kept):
            self.clean()
            raise InputError(f'None of the {len(bad)} images can be read, for example: {self._reason(bad[0])}.')
        facts = {**self.facts, 'images': len(kept), 'unreadable': bad}
        rows = Rows(self._open('rows'), kept, [self.paths[place] for place in kept], facts)
        folder = self.partial / 'made'
        try:
            folder.mkdir(exist_ok=True)
            self.format.write(folder / self.out.name, rows)
            with open(folder / self.out.name, 'rb+') as file:
                os.fsync(file.fileno())
            for path in sorted(folder.iterdir()):  # .json before .npy
                os.replace(path, self.out.with_name(path.name))
        except OSError as error:
            raise self._failed(error) from error
        self.clean()
        sentence = f'Wrote {self.out}: {self.reading.feature} of {len(kept)} images, {list(rows.shape)}.'
        if bad:
            names = ', '.join(map(printable, bad[:_NAMED])) + (', ...' if len(bad) > _NAMED else '')
            sentence += f' {len(bad)} of {len(state)} images left out: {names}; {self._reason(bad[0])}.'
        return sentence

    def clean(self) -> None:
        """Remove the folder of the parts, and its lock."""
        shutil.rmtree(self.partial, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _open(self, name: str) -> np.ndarray:
        return np.lib.format.open_memmap(self.partial / f'{name}.npy', 'r')

    def _is_made(self) -> bool:
        if not self.out.exists():
            return False
        facts = read_facts(self.out)
        if facts is None:
            raise InputError(f'{self.out} is there already, and not of mmmim extract: give another name, or remove it.')
        self._compare(facts, self.out, 'made')
        return True

    def _compare(self, theirs: dict[str, Any], path: Path, verb: str) -> None:
        own = json.loads(json.dumps(self.facts))
        keys = [key for key in own if key not in _INDIFFERENT and theirs.get(key) != own[key]]
        if not keys:
            return
        key = next((key for key in keys if key != 'encoder'), keys[0])
        there, here = (str(facts.get(key))[:60] for facts in (theirs, own))
        what = 'other images' if key in ('paths_sha256', 'root') else f'{key} {there} instead of {here}'
        raise InputError(
            f'{path} was {verb} by another call, with {what}: give another name for OUT, repeat that call, or remove '
            f'{path.name}.'
        )

    def _check_space(self) -> None:
        need = 2 * sum(spec.nbytes for spec in self.arrays.values())  # parts, and the file that they become
        free = shutil.disk_usage(self.partial).free
        if need > free:
            self.clean()
            raise InputError(
                f'{self.out} needs {need / 2**30:.1f} GiB while it is written, and the disk has {free / 2**30:.1f} GiB '
                'left: make room, or give --dtype float16 or a feature of the whole image.'
            )

    def _reason(self, path: str) -> str:
        try:
            read_image(os.path.join(self.root, path), self.reading.model.in_channels, self.reading.model.window)
        except UnreadableImageError as error:
            return str(error)
        return f'{printable(path)} could not be read'

    def _failed(self, error: OSError) -> InputError:
        return InputError(f'{self.out} could not be written: {disk_error(error)}. Make room, then call again.')


def _save(writer: Writer, states: dict[int, int]) -> None:
    """Bring rows to the disk, and then say that they are there."""
    writer.sync('rows')
    for place, state in states.items():
        writer.write('state', place, np.array([state], np.uint8))
    writer.sync('state')
    states.clear()


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
