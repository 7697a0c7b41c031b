"""Images in tar files."""

import glob
import json
import lzma
import os
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.util import find_spec
from typing import Any, NamedTuple

from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.files import open_regular
from mmmim.utils.names import printable

from .image_folder import IMAGE_EXTENSIONS
from .image_stream import ImageStream
from .tar import read_members
from .transforms.decoding import ReadOptions

#: Number of images (``nsamples``) and bytes (``filesize``) of every shard, beside the shards, in the
#: format of WebDataset's own index files.
INDEX = 'index.json'
#: Members that are no part of a sample, as the library skips them.
_META = re.compile(r'__[^/]*__($|/)')
IMAGE_KEYS = tuple(suffix[1:] for suffix in IMAGE_EXTENSIONS)


@DATASETS.register_module()
class WebDatasetStream(ImageStream):
    """A stream of images from WebDataset shards: tar files on a disk or behind a URL, read from front to back.

    Needs ``pip install "mmmim[webdataset]"``. The general part, with the promise about resuming, is described at
    :class:`~mmmim.datasets.ImageStream`. The number of images of a shard is known from :data:`INDEX` beside local
    shards, which ``tools/dataset_converters/make_shards.py`` writes; shards that it does not name are read to count.

    Args:
        shards: Files or URLs: a folder, a pattern (``data/shards/*.tar``), braces (``https://host/{000..999}.tar``),
            what else ``webdataset`` opens (``pipe:...``), or a list of these.
        pipeline: Transforms of an image.
        image_keys: Suffixes that hold the image of a sample; the first one that a sample has.
        **kwargs: Further arguments of :class:`~mmmim.datasets.ImageStream`.

    Raises:
        InputError: If the library is missing, no shards are found, or shards are missing from a folder with an index,
            damaged, cut short or hold no images.
    """

    def __init__(
        self,
        shards: str | Sequence[str],
        pipeline: Sequence[Any],
        image_keys: str | Sequence[str] = IMAGE_KEYS,
        **kwargs: Any,
    ) -> None:
        if find_spec('webdataset') is None:
            raise InputError('mmmim.WebDatasetStream needs the library webdataset: pip install "mmmim[webdataset]"')
        self.image_keys = (image_keys,) if isinstance(image_keys, str) else tuple(image_keys)
        patterns = [shards] if isinstance(shards, str) else list(shards)
        super().__init__(pipeline, _find(patterns), source=', '.join(patterns), **kwargs)
        self._indexes: dict[str, dict[str, _Entry]] = {}

    def read_shard(self, index: int) -> Iterator[tuple[str, bytes]]:
        """Name and encoded bytes of every image of a shard.

        Raises:
            InputError: The shard is damaged or cut short, also at the boundary of a member, or a sample has no image.
        """
        from webdataset.tariterators import group_by_keys

        url, images = self.shards[index], 0
        shown = printable(url)
        try:
            self._check_size(url)
            with closing(_open(url)) as stream:
                for sample in group_by_keys(self._members(stream, url)):
                    key = next((key for key in self.image_keys if key in sample), None)
                    if key is None:
                        keys = sorted(printable(key) for key in sample if not key.startswith('__'))
                        raise InputError(
                            f'sample {printable(sample["__key__"])} of {shown} has none of the image_keys '
                            f'{", ".join(self.image_keys)}; it has {", ".join(keys)}. Set image_keys of the dataset'
                        )
                    yield f'{url}/{sample["__key__"]}.{key}', sample[key]
                    images += 1
        except InputError:
            raise
        except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
            reason = getattr(error, 'strerror', None) or next(iter(error.args), type(error).__name__)
            raise InputError(
                f'{shown} cannot be read as a tar file ({printable(reason)}): repair or remove it. {images} image(s) '
                'were read before'
            ) from error

    def _members(self, stream: Any, url: str) -> Iterator[dict]:
        """Files of an archive, as webdataset groups them to samples."""
        suffixes = tuple(f'.{key}'.lower() for key in self.image_keys)
        limit = ReadOptions().max_bytes
        for name, data in read_members(stream, lambda name: name.lower().endswith(suffixes), limit):
            if not _META.match(name):
                yield {'fname': name, 'data': data, '__url__': url}
        yield {}  # ends the last sample

    def _check_size(self, url: str) -> None:
        """Compare a local shard with its index, where that tells the size."""
        size = self._index(url).get(os.path.basename(url), _Entry(None, None)).size
        if size is not None and os.path.isfile(url) and os.path.getsize(url) != size:
            raise InputError(
                f'{printable(url)} has {os.path.getsize(url)} bytes, but its index says {size}: it is cut short or '
                'another one. Copy it again, or correct the index'
            )

    def _index(self, url: str) -> dict[str, '_Entry']:
        folder = os.path.dirname(url)
        if folder not in self._indexes:
            self._indexes[folder] = _read_index(os.path.join(folder, INDEX))
        return self._indexes[folder]

    def known_length(self, index: int) -> int | None:
        """Number of images of a shard, from :data:`INDEX` where it is given."""
        url = self.shards[index]
        return self._index(url).get(os.path.basename(url), _Entry(None, None)).images


class _Entry(NamedTuple):
    """What an index says of a shard: number of images, bytes of the file."""

    images: int | None
    size: int | None


def _open(url: str) -> Any:
    """A stream of the bytes of a shard; of local ones, regular files alone are opened."""
    from webdataset.gopen import gopen

    return gopen(url) if ':' in url.split(os.sep)[0] else open_regular(url)


def _find(patterns: list[str]) -> list[str]:
    from braceexpand import braceexpand

    found: list[str] = []
    for pattern in patterns:
        for part in [pattern] if pattern.startswith('pipe:') else braceexpand(pattern):
            if ':' in part.split(os.sep)[0]:  # a URL; the library opens it, or not
                found.append(part)
                continue
            part = os.path.expanduser(part)
            files = sorted(glob.glob(os.path.join(part, '*.tar') if os.path.isdir(part) else part))
            if not files:
                raise InputError(f'no shards match {printable(part)}: set shards of the dataset to your tar files')
            if os.path.isdir(part):
                _check_complete(part, files)
            found += files
    if not found:
        raise InputError('the list of shards is empty: set shards of the dataset to your tar files')
    if twice := sorted({shard for shard in found if found.count(shard) > 1})[:3]:
        raise InputError(f'shards are named more than once: {", ".join(printable(shard) for shard in twice)}')
    return found


def _read_index(path: str) -> dict[str, _Entry]:
    if not os.path.isfile(path):
        return {}
    try:
        with open(path, encoding='utf-8') as file:
            return {
                os.path.basename(entry['url']): _Entry(
                    int(entry['nsamples']), None if entry.get('filesize') is None else int(entry['filesize'])
                )
                for entry in json.load(file)['shardlist']
            }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise InputError(
            f'{printable(path)} is no index of shards: delete it, or write it anew with make_shards.py'
        ) from None


def _check_complete(folder: str, files: list[str]) -> None:
    """Refuse a folder that lacks shards which its index names."""
    here = {os.path.basename(file) for file in files}
    if missing := sorted(set(_read_index(os.path.join(folder, INDEX))) - here):
        names = ', '.join(printable(name) for name in missing[:3])
        raise InputError(
            f'{printable(folder)} lacks {len(missing)} shard(s) that its {INDEX} names ({names}): copy them, or '
            'name the shards that are meant by a pattern'
        )
