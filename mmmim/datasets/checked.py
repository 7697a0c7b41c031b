"""Data sets that lists from elsewhere describe: what they say is checked, and what is missing is said in a sentence."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mmpretrain.datasets import BaseDataset

from mmmim.utils import InputError
from mmmim.utils.names import printable

#: The page that says how every data set lies on disk.
PAGE = 'docs/en/dataset_prepare.md'


@dataclass(frozen=True)
class Origin:
    """What a data set needs, for the sentence about what is missing.

    Attributes:
        name: What people call the data set.
        files: Files and folders that its folder must have, and the archives that they come in.
        section: Heading of :data:`PAGE`, as links name it.
    """

    name: str
    files: str
    section: str

    def missing(self, what: str, folder: str) -> InputError:
        """The error for a file or folder ``what`` that is not there."""
        return InputError(
            f'{printable(what)} is missing: {printable(folder)} must hold {self.files}. Nothing is downloaded: '
            f'{PAGE}#{self.section} says where {self.name} comes from.'
        )


def leaves_folder(path: str, folder: str) -> bool:
    """Whether a path that was joined to a folder leads out of it: by an absolute name, or by ``..``."""
    start = os.path.join(folder, '')
    return not path.startswith(start) or '..' in path[len(start) :].replace('\\', '/').split('/')


class Checked(BaseDataset):
    """A data set of mmpretrain whose files come from elsewhere: stands before the class that reads them.

    Missing files are one sentence. Images must lie in the folder of the images, and labels must be classes.

    Args:
        data_root: Folder of the data set.
        test_mode: Whether the images are for a test.
        **kwargs: Further arguments of the class that reads the files, and of ``mmpretrain.BaseDataset``: ``pipeline``,
            ``indices``, ...

    Raises:
        InputError: The folder or a file is missing or is something else, a list names a path outside the folder, or a
            label is no class.
    """

    origin: ClassVar[Origin]

    def __init__(self, data_root: str, test_mode: bool = False, **kwargs: Any) -> None:
        try:
            super().__init__(data_root=os.path.expanduser(data_root), **kwargs)
        except AssertionError as error:  # mmpretrain's, of options
            raise InputError(f'{self.origin.name}: {error}.') from None
        except RuntimeError:  # mmpretrain's, of files that it looks for beforehand
            raise self.origin.missing('An annotation file', data_root) from None
        # Not given to the class that reads, which may choose it by the split.
        self.test_mode = test_mode

    def full_init(self) -> None:
        """Read the lists.

        Raises:
            InputError: They are missing or something else.
        """
        if self._fully_initialized:
            return
        if not os.path.isdir(self.data_root):
            raise self.origin.missing(self.data_root, self.data_root)
        try:
            super().full_init()
        except InputError:
            raise
        except FileNotFoundError as error:
            raise self.origin.missing(error.filename or str(error), self.data_root) from None
        except Exception as error:  # readers of mmpretrain do not say what they raise
            reason = ' '.join(str(error).split())
            raise InputError(
                f'{printable(self.data_root)} cannot be read as {self.origin.name} ({type(error).__name__}: '
                f'{printable(reason)}): {PAGE}#{self.origin.section} says what it must hold.'
            ) from error

    def filter_data(self) -> list[dict]:
        """Refuse paths that leave the folder of the images and labels that are no class; keep everything else."""
        name, folder = self.origin.name, self.data_prefix.get('img_path') or self.data_root
        number = len(self._metainfo['classes'])
        if not self.data_list:
            raise InputError(f'The lists of {name} in {printable(self.data_root)} name no images.')
        for info in self.data_list:
            path, labels = info['img_path'], info['gt_label']
            self.check_inside(path, folder)
            for label in labels if isinstance(labels, Sequence) else (labels,):
                if not 0 <= label < number:
                    raise InputError(
                        f'A list of {name} gives {printable(path)} the label {label}, and there are {number} classes: '
                        'get this list anew.'
                    )
        first = self.data_list[0]
        if 'img' not in first and not os.path.exists(first['img_path']):
            raise self.origin.missing(first['img_path'], self.data_root)
        return super().filter_data()

    def check_inside(self, path: str, folder: str) -> None:
        """Refuse a path that was joined to a folder and leads out of it.

        Raises:
            InputError: It does.
        """
        if leaves_folder(path, folder):
            raise InputError(
                f'A list of {self.origin.name} names {printable(path)}, which lies outside {printable(folder)}: lists '
                'may name files inside the data set only, so get this list anew.'
            )
