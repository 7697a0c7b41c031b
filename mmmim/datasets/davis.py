"""Videos with annotated objects in the layout of DAVIS-2017."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.files import read_regular
from mmmim.utils.names import printable
from mmmim.utils.options import Count

from .checked import Origin
from .image_folder import IMAGE_EXTENSIONS
from .transforms.label_maps import LoadLabelMap

#: Folders of the layout, below that of the data set.
FRAMES, ANNOTATIONS, LISTS = 'JPEGImages/480p', 'Annotations/480p', 'ImageSets/2017'
#: Fewest frames of a sequence: the first is given and the last is not scored.
FEWEST_FRAMES = 3
#: Of the longest list of names.
_LIST_BYTES = 2**20


@dataclass(frozen=True)
class VideoSequence:
    """A video whose objects are annotated in every frame.

    Attributes:
        name: Name of its folder.
        frames: Paths of its T frames, in their order.
        annotations: Paths of the index maps of these frames.
    """

    name: str
    frames: tuple[str, ...]
    annotations: tuple[str, ...]

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the frames, without extensions."""
        return tuple(_stem(path) for path in self.annotations)


class VideoSequences(Dataset):
    """Sequences of a folder in DAVIS's layout, each a :class:`VideoSequence`.

    Files are found and compared here, and not read: ``JPEGImages/480p/NAME/*.jpg`` (or other images),
    ``Annotations/480p/NAME/*.png`` and ``ImageSets/2017/SPLIT.txt``, a name a line.

    Args:
        data_root: Folder of the data set.
        split: Name of the list of sequences.
        indices: Number of sequences that are taken, the first ones of the list; None for all.

    Raises:
        InputError: A file or folder is missing, the list names what is no folder inside the data set, or frames and
            annotations do not belong together.
    """

    origin: ClassVar[Origin]
    #: There are no classes: what is an object is said by the first frame of each sequence.
    metainfo: ClassVar[dict] = {}

    def __init__(self, data_root: str, split: str = 'val', indices: Count | None = None) -> None:
        self.data_root = os.path.expanduser(data_root)
        if not os.path.isdir(self.data_root):
            raise self.origin.missing(self.data_root, self.data_root)
        self.sequences = [self._sequence(name) for name in self._names(split)[:indices]]

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> VideoSequence:
        return self.sequences[index]

    def _names(self, split: str) -> list[str]:
        path = os.path.join(self.data_root, LISTS, f'{split}.txt')
        try:
            names = [line.strip() for line in read_regular(path, _LIST_BYTES).decode().splitlines()]
        except FileNotFoundError:
            raise self.origin.missing(path, self.data_root) from None
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f'{printable(path)} is no list of sequences ({error}): get it anew.') from None
        names = [name for name in names if name]
        for name in names:
            # Also where results are written these are names of folders.
            if name.startswith('.') or not name.isprintable() or any(sign in name for sign in '/\\:'):
                raise InputError(
                    f'{printable(path)} names {printable(name)!r}, which is no name of a folder: lists may name '
                    'sequences inside the data set only, so get this list anew.'
                )
            if names.count(name) > 1:
                raise InputError(f'{printable(path)} names {name!r} twice, which would count twice: get it anew.')
        if not names:
            raise InputError(f'{printable(path)} names no sequences: get it anew.')
        return names

    def _sequence(self, name: str) -> VideoSequence:
        frames = self._files(os.path.join(self.data_root, FRAMES, name), IMAGE_EXTENSIONS)
        annotations = self._files(os.path.join(self.data_root, ANNOTATIONS, name), ('.png',))
        alone = sorted(frames.keys() ^ annotations.keys())
        if alone:
            has, lacks = ('frame', 'annotation') if alone[0] in frames else ('annotation', 'frame')
            raise InputError(
                f'Sequence {name!r} of {printable(self.data_root)}: {has} {printable(alone[0])} has no {lacks} '
                f'({len(alone)} are alone of {len(frames)} frames): every frame needs an annotation of the same name, '
                'so unpack the archive anew.'
            )
        if len(frames) < FEWEST_FRAMES:
            raise InputError(
                f'Sequence {name!r} of {printable(self.data_root)} has {len(frames)} frames and needs {FEWEST_FRAMES}: '
                'the first is given and the last is not scored.'
            )
        stems = sorted(frames)
        return VideoSequence(name, *(tuple(paths[stem] for stem in stems) for paths in (frames, annotations)))

    def _files(self, folder: str, extensions: tuple[str, ...]) -> dict[str, str]:
        """Paths by names without extensions."""
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            raise self.origin.missing(folder, self.data_root) from None
        found: dict[str, str] = {}
        for name in names:
            stem, extension = os.path.splitext(name)
            if name.startswith('.') or extension.lower() not in extensions:
                continue
            if stem in found:
                raise InputError(
                    f'{printable(folder)} has two files of frame {printable(stem)}, {printable(name)} and '
                    f'{printable(os.path.basename(found[stem]))}: leave one of them.'
                )
            found[stem] = os.path.join(folder, name)
        return found


@DATASETS.register_module()
class DAVIS2017(VideoSequences):
    """DAVIS-2017 at 480p (Pont-Tuset et al. 2017, arXiv 1704.00675): videos of which every object is annotated.

    Args:
        data_root: Folder that holds ``JPEGImages``, ``Annotations`` and ``ImageSets``.
        split: ``val`` (30 sequences), which results are of, or ``train``.
        indices: Number of sequences that are taken, the first ones of the list; None for all.

    Raises:
        InputError: As :class:`VideoSequences`.
    """

    origin = Origin(
        'DAVIS-2017',
        f'{FRAMES}, {ANNOTATIONS} and {LISTS}/val.txt (the archive DAVIS-2017-trainval-480p.zip)',
        'davis-2017',
    )

    def __init__(self, data_root: str = 'data/davis', split: str = 'val', indices: Count | None = None) -> None:
        super().__init__(data_root, split, indices)


def read_annotation(path: str) -> np.ndarray:
    """The index map of a frame, ``[H, W]`` uint8: the numbers of a palette, never its colours.

    Raises:
        InputError: The file cannot be read or holds colours.
    """
    labels: np.ndarray = _LOAD.transform({'seg_map_path': path})['gt_seg_map']
    return labels


_LOAD: Any = LoadLabelMap()


@lru_cache(maxsize=1)
def palette() -> tuple[tuple[int, int, int], ...]:
    """256 colours of indices: those of Pascal VOC, which DAVIS has too.

    The bits of an index are dealt to red, green and blue in turn, the lowest to the highest bits of the colours.
    """
    colours = []
    for index in range(256):
        channels = [0, 0, 0]
        for bit in range(8):
            channels[bit % 3] |= ((index >> bit) & 1) << (7 - bit // 3)
        colours.append((channels[0], channels[1], channels[2]))
    return tuple(colours)


def save_indices(indices: np.ndarray, path: str | os.PathLike) -> None:
    """Write an index map ``[H, W]`` uint8 as a PNG file with DAVIS's colours."""
    image = Image.fromarray(indices)
    image.putpalette([channel for colour in palette() for channel in colour])
    image.save(path)


def _stem(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
