"""CIFAR-10 and CIFAR-100 from their files for Python, of which nothing is run."""

from __future__ import annotations

import io
import os
import pickle
from typing import Any, ClassVar, Literal

import numpy as np
from mmpretrain.datasets.categories import CIFAR10_CATEGORIES, CIFAR100_CATEGORIES

from mmmim.datasets.checked import Checked, Origin
from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.files import read_regular
from mmmim.utils.names import printable

SIDE = 32
_MAX_BYTES = 2**28  # the longest file has 155 MB
#: What arrays are made of in a pickle; numpy 2 calls its modules otherwise.
_NUMPY = {
    ('numpy.core.multiarray', '_reconstruct'),
    ('numpy._core.multiarray', '_reconstruct'),
    ('numpy', 'ndarray'),
    ('numpy', 'dtype'),
}


class _Part:
    """Stands for whatever of numpy a pickle names: keeps what it would be made of, and makes nothing."""

    __slots__ = ('arguments', 'state')

    def __init__(self, *arguments: Any) -> None:
        self.arguments, self.state = arguments, ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle.Unpickler):
    """Reads numbers, texts, lists, tuples and dicts; arrays become :class:`_Part`, and any other name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """:class:`_Part` for names of arrays.

        Raises:
            UnpicklingError: It is the name of anything else.
        """
        if (module, name) not in _NUMPY:
            raise pickle.UnpicklingError(f'it names {module}.{name}, which has no place in it')
        return _Part


def read_batch(path: str | os.PathLike) -> dict[str, Any]:
    """Read a file of CIFAR's version for Python, a pickled dict, without running what it names.

    Restricted unpickling of this version, not the binary one, because this is what torchvision and mmpretrain unpack
    too, so that most people have it. No function that a file names is called, not even numpy's.

    Args:
        path: A file such as ``data_batch_1``.

    Returns:
        The dict, with texts as keys; its ``data`` are images, RGB ``[n, 32, 32, 3]`` uint8.

    Raises:
        InputError: It is missing, or holds something else.
    """
    try:
        content = read_regular(path, _MAX_BYTES)
        found = _Unpickler(io.BytesIO(content), encoding='bytes').load()
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in found.items()}
        _, shape, kind, by_columns, pixels = batch['data'].state
        if kind.arguments[0] not in (b'u1', 'u1') or by_columns or len(shape) != 2 or shape[1] != 3 * SIDE**2:
            raise ValueError(f'its images are {shape} of {kind.arguments[0]!r}')
        batch['data'] = np.frombuffer(pixels, np.uint8).reshape(shape[0], 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    except FileNotFoundError:
        raise
    except Exception as error:  # an unpickler may raise anything
        reason = ' '.join(str(error).split())
        raise InputError(
            f'{printable(path)} is no file of CIFAR ({type(error).__name__}: {printable(reason)}): unpack the archive '
            'anew.'
        ) from None
    return batch


@DATASETS.register_module()
class CIFAR10(Checked):
    """CIFAR-10 (Krizhevsky 2009): 50 000 training and 10 000 test images of 32 pixels, in memory.

    The samples have ``img``, BGR as all images, which ``mmmim.LoadImage`` leaves as it is.

    Args:
        data_root: The folder that holds ``cifar-10-batches-py/``.
        split: 'train' or 'test'.
        **kwargs: Further arguments of ``mmpretrain.BaseDataset``: ``pipeline``, ``test_mode``, ``indices``, ...

    Raises:
        InputError: Files are missing, or hold something else.
    """

    METAINFO: ClassVar[dict] = {'classes': CIFAR10_CATEGORIES}
    origin = Origin('CIFAR-10', 'cifar-10-batches-py/ of cifar-10-python.tar.gz', 'cifar-10-and-cifar-100')
    folder: ClassVar[str] = 'cifar-10-batches-py'
    files: ClassVar[dict[str, tuple[str, ...]]] = {
        'train': tuple(f'data_batch_{i}' for i in range(1, 6)),
        'test': ('test_batch',),
    }
    labels: ClassVar[str] = 'labels'

    def __init__(self, data_root: str, split: Literal['train', 'test'] = 'train', **kwargs: Any) -> None:
        self.split = split
        super().__init__(data_root=data_root, ann_file='', **kwargs)

    def load_data_list(self) -> list[dict]:
        """Pixels, class and a name of every image."""
        found = []
        for name in self.files[self.split]:
            path = os.path.join(self.data_root, self.folder, name)
            batch = read_batch(path)
            images = np.ascontiguousarray(batch['data'][..., ::-1])
            found += [
                {'img': image, 'img_path': os.path.join(path, f'{i:05d}'), 'gt_label': label}
                for i, (image, label) in enumerate(zip(images, batch[self.labels], strict=True))
            ]
        return found


@DATASETS.register_module()
class CIFAR100(CIFAR10):
    """CIFAR-100 (Krizhevsky 2009) with its 100 fine labels: as :class:`CIFAR10`, from ``cifar-100-python/``."""

    METAINFO: ClassVar[dict] = {'classes': CIFAR100_CATEGORIES}
    origin = Origin('CIFAR-100', 'cifar-100-python/ of cifar-100-python.tar.gz', 'cifar-10-and-cifar-100')
    folder = 'cifar-100-python'
    files: ClassVar[dict[str, tuple[str, ...]]] = {'train': ('train',), 'test': ('test',)}
    labels = 'fine_labels'
