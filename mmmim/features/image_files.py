"""Features of image files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmmim.datasets.squares import centre_square, nearest_multiple
from mmmim.datasets.transforms.loading import UnreadableImageError, read_image
from mmmim.utils import InputError
from mmmim.utils.progress import progress
from mmmim.utils.workers import outlived_by_parent

from .extraction import Features
from .extractor import FeatureExtractor
from .labelled_images import extractor, global_features
from .names import check_pooling

#: Poolings that are meant where none is named, as far as a model has them.
DEFAULT_POOLINGS = ('cls', 'pooled')


@dataclass
class EncodedFiles:
    """Features of image files.

    Attributes:
        features: Features of the n files by pooling, ``[n, D]`` on the CPU.
        index: Places of the n files that could be read among those asked for.
        unreadable: Why the others could not, each with its path.
        size: Side of the images in pixels.
    """

    features: dict[str, Tensor] = field(default_factory=dict)
    index: list[int] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    size: int = 0


class _Squares(Dataset):
    """Index and pixels ``[size, size, channels]`` of every file, or index and what is wrong with it."""

    def __init__(self, paths: Sequence[str], size: int, channels: int, window: Any) -> None:
        self.paths, self.size, self.channels, self.window = paths, size, channels, window

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray | str]:
        try:
            return index, centre_square(read_image(self.paths[index], self.channels, self.window), self.size)
        except UnreadableImageError as error:
            return index, str(error)


def square_loader(
    paths: Sequence[str], size: int, model: FeatureExtractor, batch_size: int, workers: int
) -> DataLoader:
    """Images of files as central squares, in their order.

    Args:
        paths: Paths of the image files.
        size: Side in pixels.
        model: The encoder, whose channels and depth of pixels the images are read with.
        batch_size: Images of a batch.
        workers: Processes that read; 0 for this one.

    Returns:
        Batches: lists of the place of a file, and its pixels ``[size, size, channels]`` or what is wrong with it.
    """
    squares = _Squares(paths, size, model.in_channels, model.window)
    return outlived_by_parent(DataLoader(squares, batch_size, num_workers=workers, collate_fn=list))


def encode_files(
    model: FeatureExtractor,
    paths: Sequence[str],
    poolings: Sequence[str] | None = None,
    size: int | None = None,
    batch_size: int = 64,
    workers: int = 0,
) -> EncodedFiles:
    """Features of image files, each resized at the shorter side and cropped to the central square; prints progress.

    Files that cannot be read are left out.

    Args:
        model: The encoder, with its predictor where it has one.
        paths: Paths of the image files.
        poolings: Names of poolings, see :meth:`mmmim.features.Features.pool`; None for those of 'cls' and 'pooled' that
            it has.
        size: Side in pixels, brought to a multiple of the patch size; None for that of the training.
        batch_size: Images that are encoded at a time.
        workers: Processes that read; 0 for this one.

    Returns:
        Features.

    Raises:
        InputError: The model has no such pooling, no file can be read, or a number makes no sense.
    """
    for name in poolings or ():
        check_pooling(name)
    for option, value, least in (('--batch-size', batch_size, 1), ('--workers', workers, 0)):
        if value < least:
            raise InputError(f'{option} {value}: give {least} or more.')
    asked = model.image_size if size is None else size
    encoded = EncodedFiles(size=nearest_multiple(asked, model.patch_size))
    if encoded.size != asked:
        print(f'The patch size {model.patch_size} does not divide {asked}: {encoded.size} pixels instead.')
    loader = square_loader(paths, encoded.size, model, batch_size, workers)
    batches = _encode(model, loader, encoded, poolings)
    encoded.features = global_features(batches, tuple(poolings or DEFAULT_POOLINGS))
    if not encoded.index:
        raise InputError(f'None of the {len(paths)} images can be read, for example: {encoded.unreadable[0]}.')
    if encoded.unreadable:
        print(f'{len(encoded.unreadable)} of {len(paths)} images left out, for example: {encoded.unreadable[0]}.')
    return encoded


def _encode(
    model: FeatureExtractor, loader: DataLoader, encoded: EncodedFiles, poolings: Sequence[str] | None
) -> Iterator[Features]:
    """Features batch by batch; notes which files were read and which could not."""
    extract = extractor(model, poolings or ())
    for samples in progress(loader, 'batches'):
        images = [(index, image) for index, image in samples if not isinstance(image, str)]
        encoded.unreadable += [image for _, image in samples if isinstance(image, str)]
        if images:
            pixels = np.stack([image for _, image in images])
            features = extract(torch.from_numpy(pixels).permute(0, 3, 1, 2))
            if not encoded.index:
                check_has(features, poolings or ())
            encoded.index += [index for index, _ in images]
            yield features


def check_has(features: Features, poolings: Sequence[str]) -> None:
    """Refuse names of features that a model does not have.

    Raises:
        InputError: Naming those that it has.
    """
    absent = [name for name in poolings if features.pool(name) is None]
    if absent:
        has = [name for name in ('cls', 'pooled', 'predicted', 'registers') if features.pool(name) is not None]
        raise InputError(
            f'The model has no feature {", ".join(absent)}: choose from {", ".join(has)}, pooled_raw, max, topK, all.'
        )
