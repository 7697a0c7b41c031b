"""Any folder of images."""

import logging
import os
import pickle
from collections import Counter
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.logging import print_log
from mmpretrain.datasets import CustomDataset

from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.files import read_regular
from mmmim.utils.names import printable
from mmmim.utils.options import Share

from .checked import PAGE
from .transforms.loading import UnreadableImageError

IMAGE_EXTENSIONS = (
    '.jpg',
    '.jpeg',
    '.jfif',
    '.png',
    '.webp',
    '.tif',
    '.tiff',
    '.bmp',
    '.gif',
    '.ppm',
    '.pgm',
    '.npy',
)
#: Of the longest list of names.
_LIST_BYTES = 2**30


@DATASETS.register_module()
class ImageFolder(CustomDataset):
    """Images of a folder, flat or nested, without an annotation file.

    Hidden files and folders are skipped, links to folders are followed. The order is sorted by folder and name.

    An image that cannot be read does not stop training: its path is logged, the next readable image takes its place,
    and :attr:`unreadable` names it, also if a data loader worker met it. Beyond ``max_unreadable_share`` the data are
    taken to be broken and training stops.

    Args:
        data_root: Folder that holds the images.
        with_label: Take the name of the topmost folder of every image as its class, as in ImageNet's layout; images
            directly in ``data_root`` are then left out. Defaults to False.
        extensions: What counts as an image, upper or lower case.
        max_unreadable_share: Share of the images that may be unreadable, 0 to 1, met by this process and its data
            loader workers. One unreadable image is always tolerated, unless the share is 0. Defaults to 0.01.
        list_file: Text file that names the only images to be used, one a line, as ``n01440764_10026.JPEG``: the class
            is what stands before the underscore. ImageNet's 1 % and 10 % are such lists. Needs ``with_label``.
        section: Heading of docs/en/dataset_prepare.md that a message about a missing folder names, as links do.
        **kwargs: Further arguments of ``mmpretrain.CustomDataset``: ``pipeline``, ``test_mode``, ``indices``, ...  In
            ``test_mode`` an unreadable image is an error.

    Raises:
        InputError: If the folder is not given, missing, a file, cannot be listed or holds no images.
    """

    def __init__(
        self,
        data_root: str,
        with_label: bool = False,
        extensions: Sequence[str] = IMAGE_EXTENSIONS,
        max_unreadable_share: Share = 0.01,
        list_file: str | None = None,
        section: str = 'any-folder-of-images',
        **kwargs: Any,
    ) -> None:
        if not 0 <= max_unreadable_share <= 1:
            raise InputError(f'max_unreadable_share={max_unreadable_share}: give a share between 0 and 1')
        if not data_root:
            raise InputError('data_root is empty: give the folder that holds the images')
        if list_file is not None and not with_label:
            raise InputError('list_file of mmmim.ImageFolder names images of class folders: set with_label=True')
        self.max_unreadable_share, self.list_file, self.section = max_unreadable_share, list_file, section
        super().__init__(
            data_root=os.path.expanduser(data_root), with_label=with_label, extensions=extensions, **kwargs
        )

    @property
    def unreadable(self) -> list[str]:
        """Paths of the images found unreadable so far, by this process and its data loader workers."""
        return [self.get_data_info(i)['img_path'] for i in self._flags.indices()]

    def full_init(self) -> None:
        """List the images."""
        if not self._fully_initialized:
            super().full_init()
            self._flags = _SharedFlags(len(self))

    def get_subset(self, indices: int | Sequence[int]) -> 'ImageFolder':
        """A copy with some of the images, which starts its count of unreadable ones afresh."""
        subset = super().get_subset(indices)
        subset._flags = _SharedFlags(len(subset))
        return subset

    def get_subset_(self, indices: int | Sequence[int]) -> None:
        """Keep some of the images and start the count of unreadable ones afresh."""
        super().get_subset_(indices)
        self._flags = _SharedFlags(len(self))

    def prepare_data(self, idx: int) -> Any:
        """Run the pipeline on image ``idx``, or on the next readable one.

        Raises:
            InputError: If the image is unreadable in test mode, or one too many is in training.
        """
        if self.test_mode:
            try:
                return super().prepare_data(idx)
            except UnreadableImageError as error:
                raise InputError(f'{error}. Evaluation needs every image: repair the file or remove it') from None
        for step in range(len(self)):
            # The next one, not a random one: the same run meets the same images again.
            candidate = (idx + step) % len(self)
            if candidate in self._flags:
                continue
            try:
                return super().prepare_data(candidate)
            except UnreadableImageError as error:
                self._tolerate(candidate, error)
        raise InputError(f'none of the {len(self)} images of {self.img_prefix} can be read')

    def _tolerate(self, idx: int, error: UnreadableImageError) -> None:
        self._flags.add(idx)
        print_log(f'{error}. The next readable image takes its place.', logger='current', level=logging.WARNING)
        total, count = len(self), len(self._flags)
        limit = max(1, int(self.max_unreadable_share * total)) if self.max_unreadable_share else 0
        if count > limit:
            raise InputError(
                f'{count} of the {total} images of {self.img_prefix} cannot be read ({count / total:.1%}), which is '
                f'more than max_unreadable_share={self.max_unreadable_share:g} of the dataset allows; for example: '
                f'{error}. Repair or remove the files that the log names, or raise max_unreadable_share'
            ) from None

    def _join_prefix(self) -> None:
        super()._join_prefix()
        self.data_prefix['img_path'] = os.path.normpath(self.data_prefix['img_path'])

    def _find_samples(self) -> list:
        """Relative paths, or ``(path, class index)`` with labels."""
        root = self.img_prefix
        if os.path.isfile(root):
            raise InputError(f'{root} is a file: give the folder that holds the images as data_root')
        if not os.path.isdir(root):
            raise InputError(
                f'there is no image folder {root}: set data_root of the dataset to yours; {PAGE}#{self.section} says '
                'where data sets come from and how they lie on disk'
            )
        paths, others = list_images(root, self.extensions)
        if not paths:
            seen = ', '.join(
                f'{count} x {printable(suffix) or "no extension"}' for suffix, count in others.most_common(8)
            )
            raise InputError(
                f'no images in {root}: looked for {", ".join(sorted(self.extensions))}, found {seen or "no files"}. '
                f'Set data_root of the dataset to the folder that holds the images, or extensions to theirs'
            )
        if self.list_file is not None:
            paths = named_images(self.list_file, paths, root)
        return self._label(root, paths) if self.with_label else paths

    def _label(self, root: str, paths: list[str]) -> list[tuple[str, int]]:
        names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith('.'))
        if not names:
            raise InputError(f'no class folders in {root}: with_label=True needs one folder of images per class')
        if self.CLASSES is not None and len(self.CLASSES) != len(names):
            raise InputError(
                f'{root} has {len(names)} class folders, but {len(self.CLASSES)} classes are given in the config'
            )
        if self.CLASSES is None:
            self._metainfo['classes'] = tuple(names)
        # As mmpretrain's CustomDataset has it: what labels are numbered by, whatever the classes are called.
        self.folder_to_idx = index = {name: i for i, name in enumerate(names)}
        samples = [(path, index[path.split(os.sep, 1)[0]]) for path in paths if os.sep in path]
        if not samples:
            raise InputError(f'the class folders of {root} hold no images; with_label=False takes those beside them')
        empty = sorted(set(names) - {names[label] for _, label in samples})
        if empty:
            without = ', '.join(printable(name) for name in empty)
            print_log(f'class folders without images in {printable(root)}: {without}', 'current', logging.WARNING)
        return samples

    def _serialize_data(self) -> tuple[np.ndarray, np.ndarray]:
        """The base class's format, without its copies: they are gigabytes at ImageNet-22k's 14 million images."""
        packed = bytearray()
        ends: np.ndarray = np.empty(len(self.data_list), np.int64)
        self.data_list.reverse()
        for i in range(len(ends)):
            packed += pickle.dumps(self.data_list.pop(), protocol=4)
            ends[i] = len(packed)
        return np.frombuffer(packed, np.uint8), ends


def list_images(root: str, extensions: Sequence[str]) -> tuple[list[str], Counter[str]]:
    """List the images below a folder without touching the files themselves.

    Args:
        root: Folder to look in, with all folders below it.
        extensions: What counts as an image, lower case, with the dot.

    Returns:
        Paths relative to ``root``, sorted by folder and name, and how many other files there are of each extension.

    Raises:
        InputError: If a folder cannot be listed.
    """
    paths: list[str] = []
    others: Counter[str] = Counter()
    visited: set[tuple[int, int]] = set()
    suffixes = frozenset(extensions)
    for folder, subfolders, files in os.walk(root, onerror=_cannot_list, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:  # a link back to a folder above would never end
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        prefix = os.path.relpath(folder, root) + os.sep if len(visited) > 1 else ''
        for name in sorted(files):
            if name.startswith('.'):
                continue
            suffix = os.path.splitext(name)[1].lower()
            if suffix in suffixes:
                paths.append(prefix + name)
            else:
                others[suffix] += 1
    return paths, others


def named_images(list_file: str, paths: Sequence[str], root: str) -> list[str]:
    """The images of class folders that a list names by file name, ``CLASS_NUMBER.EXTENSION``, and no others.

    Args:
        list_file: Text file with a name a line.
        paths: Images of the folder, ``CLASS/CLASS_NUMBER.EXTENSION``.
        root: Folder of the images, for messages.

    Returns:
        Those of ``paths`` that are named, in their order.

    Raises:
        InputError: The list cannot be read, or names what is not there.
    """
    try:
        names = read_regular(list_file, _LIST_BYTES).decode().split()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f'list_file={printable(list_file)} cannot be read ({error}): {PAGE}#imagenet-1k says where the lists '
            'of 1 % and 10 % come from'
        ) from None
    wanted = {os.path.join(name.split('_', 1)[0], name) for name in names}
    absent = sorted(wanted.difference(paths))
    if absent or not wanted:
        example = f', {printable(absent[0])} for example' if absent else ''
        raise InputError(
            f'{len(absent)} of the {len(wanted)} images that {printable(list_file)} names are not in {root}{example}: '
            'a part of a list is not the list that results are compared by, so complete the folder or the list'
        )
    return [path for path in paths if path in wanted]


def _cannot_list(error: OSError) -> NoReturn:
    raise InputError(f'cannot list the folder {printable(error.filename)}: {error.strerror}')


class _SharedFlags:
    """A set of image indices that data loader workers share, however they are started.

    Without a lock: two workers that meet the same image at the same time both log it, and it still counts once.
    """

    def __init__(self, length: int) -> None:
        self._flags = torch.zeros(length, dtype=torch.uint8).share_memory_()

    def __deepcopy__(self, memo: dict) -> '_SharedFlags':
        # A deep copy of a tensor is not in shared memory, and the runner copies data sets given as objects.
        copied = _SharedFlags(len(self._flags))
        copied._flags.copy_(self._flags)
        return copied

    def __contains__(self, index: int) -> bool:
        return bool(self._flags[index])

    def __len__(self) -> int:
        return int(self._flags.sum())

    def add(self, index: int) -> None:
        self._flags[index] = 1

    def indices(self) -> list[int]:
        return self._flags.nonzero().flatten().tolist()
