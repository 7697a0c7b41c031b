"""What becomes of the sequences of a video test: kept on disk, so that no sequence is done twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmmim.datasets.davis import VideoSequence, save_indices
from mmmim.evaluation.measures.davis import ObjectScores
from mmmim.utils import InputError
from mmmim.utils.atomic import disk_error, write_text_atomically
from mmmim.utils.files import read_regular

#: Of the longest file of scores.
_SCORE_BYTES = 2**26


class SequenceStore:
    """A folder of masks and scores, named by what they were made with.

    Another encoder, other weights or other settings have another folder. ``masks/NAME/*.png`` are index maps with
    DAVIS's colours, in the layout that its own evaluation reads; ``scores/NAME.json`` is written last, and only by it a
    sequence counts as done. It names the files of the sequence with their sizes and times: when they change, the
    sequence is done again.

    Args:
        root: Where such folders lie.
        key: What masks depend on beside the files of a sequence, as JSON data.

    Raises:
        InputError: The folder cannot be written.
    """

    def __init__(self, root: str | os.PathLike, key: Mapping[str, Any]) -> None:
        text = json.dumps(key, sort_keys=True)
        self.folder = Path(root) / f'propagation-{hashlib.sha256(text.encode()).hexdigest()[:12]}'
        write_text_atomically(json.dumps(key, indent=1, sort_keys=True) + '\n', self.folder / 'settings.json')

    def load(self, sequence: VideoSequence) -> tuple[ObjectScores, dict[str, Any]] | None:
        """Scores of a sequence that is done, and what else was noted of it; None for one that is to be done."""
        try:
            found = json.loads(read_regular(self._scores(sequence), _SCORE_BYTES))
            if found['files'] != _files(sequence):
                return None
            values = [np.array(found[name], np.float64) for name in ('J', 'F')]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        shapes = {each.shape for each in values}
        about = found.get('about')
        sides = [about.get(name) if isinstance(about, dict) else None for name in ('input', 'grid')]
        noted = all(isinstance(each, list) and len(each) == 2 for each in sides)
        whole = noted and len(shapes) == 1 and values[0].ndim == 2 and values[0].shape[1] == len(sequence.frames) - 2
        masks = [self._masks(sequence) / f'{stem}.png' for stem in sequence.stems]
        if not whole or not all(mask.is_file() and mask.stat().st_size for mask in masks):
            return None
        return ObjectScores(*values), about

    def save(self, sequence: VideoSequence, scores: ObjectScores, about: Mapping[str, Any]) -> None:
        """Mark a sequence as done.

        Raises:
            InputError: The disk is full or the folder cannot be written.
        """
        record = {
            'name': sequence.name,
            'about': dict(about),
            'J': scores.region.tolist(),
            'F': scores.contour.tolist(),
            'files': _files(sequence),
        }
        write_text_atomically(json.dumps(record) + '\n', self._scores(sequence))

    @contextlib.contextmanager
    def masks(self, sequence: VideoSequence) -> Iterator[MaskWriter]:
        """Write the masks of a sequence; its folder appears, in the place of an old one, when all are there.

        Raises:
            InputError: The disk is full or the folder cannot be written.
        """
        folder = self._masks(sequence)
        partial = folder.with_name(f'.{sequence.name}.{os.getpid()}.partial')
        try:
            partial.mkdir(parents=True, exist_ok=True)
            yield MaskWriter(partial)
            with contextlib.suppress(FileNotFoundError):
                self._scores(sequence).unlink()  # of old masks
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial, folder)
        except OSError as error:
            if isinstance(error, InputError):
                raise
            raise InputError(
                f'{folder} could not be written: {disk_error(error)}. Make room or take another --work-dir; sequences '
                'that are done stay.'
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def table(self, extension: str) -> Path:
        """The file of the table of all sequences."""
        return self.folder / f'scores.{extension}'

    def sheet(self, sequence: VideoSequence) -> Path:
        """The file of the picture of a sequence; its folder is made."""
        path = self.folder / 'sheets' / f'{sequence.name}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _masks(self, sequence: VideoSequence) -> Path:
        return self.folder / 'masks' / sequence.name

    def _scores(self, sequence: VideoSequence) -> Path:
        return self.folder / 'scores' / f'{sequence.name}.json'


class MaskWriter:
    """Writes index maps as PNG files with DAVIS's colours.

    Args:
        folder: Folder of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, stem: str, indices: np.ndarray) -> None:
        """Write ``[H, W]`` uint8."""
        save_indices(indices, self.folder / f'{stem}.png')


def _files(sequence: VideoSequence) -> list[list[Any]]:
    """Names, sizes and times of the files of a sequence."""
    return [[os.path.basename(path), *_status(path)] for path in (*sequence.frames, *sequence.annotations)]


def _status(path: str) -> Sequence[int]:
    try:
        status = os.stat(path)
    except OSError as error:
        raise InputError(f'{path} cannot be read: {(error.strerror or str(error)).lower()}.') from error
    return status.st_size, status.st_mtime_ns
