"""Images of Hugging Face data sets."""

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from torch.utils.data import get_worker_info

from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.names import printable

from .image_stream import ImageStream
from .tar import ends_as_an_archive
from .transforms.loading import UnreadableImageError, read_file

# Rows that are handed over together.
_ROWS = 16


@DATASETS.register_module()
class HuggingFaceStream(ImageStream):
    """A stream of images from a data set of the Hugging Face Hub, or from files in one of its formats.

    Needs ``pip install "mmmim[huggingface]"``. Nothing is stored: files are read when their turn comes. The general
    part, with the promise about resuming, is described at :class:`~mmmim.datasets.ImageStream`; a shard is a file of
    the data set. The number of images of a Parquet file is read from its footer; other files are read to count.

    Args:
        path: Name of a data set (``ILSVRC/imagenet-1k``), a folder, or a format (``parquet``) with ``data_files``.
        pipeline: Transforms of an image.
        split: Split of the data set, such as ``train``.
        column: Holds the images: of type ``Image``, or encoded bytes.
        load_options: More of ``datasets.load_dataset_builder``: ``name``, ``data_files``, ``revision``, ``token``, ...
        **kwargs: Further arguments of :class:`~mmmim.datasets.ImageStream`.

    Raises:
        InputError: If the library is missing, or data set, split or column cannot be opened.
    """

    def __init__(
        self,
        path: str,
        pipeline: Sequence[Any],
        split: str = 'train',
        column: str = 'image',
        load_options: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if find_spec('datasets') is None:
            raise InputError('mmmim.HuggingFaceStream needs the library datasets: pip install "mmmim[huggingface]"')
        import datasets

        try:
            builder = datasets.load_dataset_builder(path, **(load_options or {}))
            rows = builder.as_streaming_dataset(split=split)
        except (OSError, ValueError) as error:
            raise InputError(
                f'the Hugging Face data set {path} with split={split!r} cannot be opened: {error} Check path, split '
                'and load_options of the dataset'
            ) from error
        self.column = column
        if rows.column_names is not None:
            self._check_column(path, rows.column_names)
            rows = rows.select_columns([column])
        if rows.features is not None and isinstance(rows.features[column], datasets.Image):
            rows = rows.cast_column(column, datasets.Image(decode=False))
        self._rows = rows
        files = [str(file) for file in (getattr(builder.config, 'data_files', None) or {}).get(split, ())]
        self._files = files if len(files) == rows.num_shards else []
        shards = self._files or [f'{path}/{split} shard {i}' for i in range(rows.num_shards)]
        super().__init__(pipeline, shards, source=f'{path}/{split}', **kwargs)
        self._reset_in_worker = True

    def read_shard(self, index: int) -> Iterator[tuple[str, bytes]]:
        """Name and encoded bytes of every image of a shard."""
        if self._reset_in_worker and get_worker_info() is not None:
            import fsspec

            fsspec.asyn.reset_lock()  # a fork copies the lock, but not the thread that would release it
            self._reset_in_worker = False
        self._check_end(index)
        try:
            yield from self._rows_of(index)
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise self._unreadable(index, error) from error

    def _unreadable(self, index: int, error: Exception) -> InputError:
        reason = printable(' '.join(str(error).split()) or type(error).__name__)
        return InputError(f'{printable(self.shards[index])} cannot be read ({reason}): repair it, or try again')

    def _rows_of(self, index: int) -> Iterator[tuple[str, bytes]]:
        shard = self._rows.shard(num_shards=len(self.shards), index=index)
        # Not iter(shard): in a data loader worker that deals the shard to the workers once more.
        for batch in shard.iter(batch_size=_ROWS):
            if self.column not in batch:
                self._check_column(self.source, list(batch))
            for value in batch[self.column]:
                name, data = (value.get('path'), value.get('bytes')) if isinstance(value, dict) else (None, value)
                if data is None and name:
                    data = _read_file(name)
                if not isinstance(data, bytes):
                    raise InputError(
                        f'column {self.column} of {self.source} holds {type(value).__name__}, not images or encoded '
                        'bytes: set column of the dataset'
                    )
                yield f'{self.shards[index]}/{name or "image"}', data

    def _check_end(self, index: int) -> None:
        """Refuse a tar file that is cut short: the library takes what is there for the whole.

        Raises:
            InputError: Naming the file.
        """
        if self._files and self._files[index].endswith('.tar'):
            import fsspec

            with fsspec.open(self._files[index], 'rb') as file:
                if not ends_as_an_archive(file):
                    raise InputError(
                        f'{printable(self._files[index])} cannot be read as a tar file (it ends early, without the '
                        'blocks that end an archive): repair or remove it'
                    )

    def known_length(self, index: int) -> int | None:
        """Number of images of a shard, from the footer of a Parquet file."""
        if not self._files or not self._files[index].endswith('.parquet'):
            return None
        import fsspec
        from pyarrow import parquet

        try:
            with fsspec.open(self._files[index], 'rb') as file:
                return parquet.ParquetFile(file).metadata.num_rows
        except (OSError, ValueError) as error:
            raise self._unreadable(index, error) from error

    def _check_column(self, source: str, columns: Sequence[str]) -> None:
        if self.column not in columns:
            raise InputError(
                f'{source} has no column {self.column!r}, but {", ".join(map(printable, columns))}: set column of the '
                'dataset'
            )


def _read_file(name: str) -> bytes:
    if '://' not in name:  # of a local file a row may name anything, a named pipe too
        try:
            return read_file(name)
        except UnreadableImageError as error:
            raise InputError(f'{error}. A row of the data set names it: repair or remove it') from None
    import fsspec

    with fsspec.open(name, 'rb') as file:
        return file.read()
