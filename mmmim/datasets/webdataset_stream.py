"""Images in tar files."""

import glob
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from mmmim.registry import DATASETS
from mmmim.utils import InputError

from .image_folder import IMAGE_EXTENSIONS
from .image_stream import ImageStream

#: Number of images of every shard, beside the shards, in the format of WebDataset's own index files.
INDEX = 'index.json'
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
        **kwargs: Of :class:`~mmmim.datasets.ImageStream`.

    Raises:
        InputError: If the library is missing, no shards are found, or shards are damaged or hold no images.
    """

    def __init__(
        self,
        shards: str | Sequence[str],
        pipeline: Sequence[Any],
        image_keys: Sequence[str] = IMAGE_KEYS,
        **kwargs: Any,
    ) -> None:
        if find_spec('webdataset') is None:
            raise InputError('mmmim.WebDatasetStream needs the library webdataset: pip install "mmmim[webdataset]"')
        self.image_keys = (image_keys,) if isinstance(image_keys, str) else tuple(image_keys)
        patterns = [shards] if isinstance(shards, str) else list(shards)
        super().__init__(pipeline, _find(patterns), source=', '.join(patterns), **kwargs)
        self._indexes: dict[str, dict[str, int]] = {}

    def read_shard(self, index: int) -> Iterator[tuple[str, bytes]]:
        """Name and encoded bytes of every image of a shard."""
        from webdataset import WebDataset

        url = self.shards[index]
        # Shards are dealt to processes and workers before they come here, so the library must not do it again.
        # The seed is not used, but without one it would be drawn from the global generator.
        samples = WebDataset(
            [url], shardshuffle=False, nodesplitter=None, workersplitter=None, empty_check=False, seed=0
        )
        try:
            for sample in samples:
                key = next((key for key in self.image_keys if key in sample), None)
                if key is None:
                    keys = sorted(key for key in sample if not key.startswith('__'))
                    raise InputError(
                        f'sample {sample["__key__"]} of {url} has none of the image_keys {", ".join(self.image_keys)}; '
                        f'it has {", ".join(keys)}. Set image_keys of the dataset'
                    )
                yield f'{url}/{sample["__key__"]}.{key}', sample[key]
        except InputError:
            raise
        except (OSError, EOFError, ValueError, tarfile.TarError) as error:
            reason = getattr(error, 'strerror', None) or next(iter(error.args), type(error).__name__)
            raise InputError(f'{url} cannot be read as a tar file ({reason}): repair or remove it') from error

    def length_of(self, index: int) -> int:
        """Number of images of a shard, from :data:`INDEX` where it is given."""
        folder, name = os.path.split(self.shards[index])
        if folder not in self._indexes:
            self._indexes[folder] = _read_index(os.path.join(folder, INDEX))
        known = self._indexes[folder].get(name)
        return super().length_of(index) if known is None else known


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
                raise InputError(f'no shards match {part}: set shards of the dataset to your tar files')
            found += files
    if not found:
        raise InputError('the list of shards is empty: set shards of the dataset to your tar files')
    if twice := sorted({shard for shard in found if found.count(shard) > 1})[:3]:
        raise InputError(f'shards are named more than once: {", ".join(twice)}')
    return found


def _read_index(path: str) -> dict[str, int]:
    if not os.path.isfile(path):
        return {}
    try:
        with open(path) as file:
            return {os.path.basename(entry['url']): int(entry['nsamples']) for entry in json.load(file)['shardlist']}
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f'{path} is no index of shards: delete it, or write it anew with make_shards.py') from None
