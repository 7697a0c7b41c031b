"""The objects of a whole video, from its files to index maps of every frame.

Legend: T frames of H x W pixels, N = h x w patches, D width of the features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmcv.image import imresize
from torch import Tensor

from mmmim.datasets.davis import VideoSequence, read_annotation
from mmmim.datasets.transforms.loading import LoadImage
from mmmim.evaluation.measures.davis import VOID, number_of_objects
from mmmim.utils import InputError
from mmmim.utils.names import printable

from .label_maps import first_labels, hard_labels, input_size
from .propagation import Propagation, Propagator

#: From images (uint8 ``[3, H, W]``, BGR) to features ``[1, N, D]`` of one or more layers and their grid.
Extract = Callable[[Sequence[Tensor]], tuple[Sequence[Tensor], tuple[int, int]]]


@dataclass(frozen=True)
class FollowedFrame:
    """A frame with the objects that were found in it.

    Attributes:
        number: Place of the frame in the video, from 0.
        stem: Name of its annotation, without extension.
        image: Pixels as in the file, ``[H, W, 3]`` BGR.
        annotated: True indices of objects ``[H, W]``, void as background.
        predicted: Indices that were found by each layer, ``[H, W]`` uint8; of the first frame the annotation.
        objects: Number of objects in the first frame.
        input_size: Height and width of the frame for the encoder.
        grid: ``(h, w)`` in patches.
    """

    number: int
    stem: str
    image: np.ndarray
    annotated: np.ndarray
    predicted: tuple[np.ndarray, ...]
    objects: int
    input_size: tuple[int, int]
    grid: tuple[int, int]


def follow(
    sequence: VideoSequence, extract: Extract, patch_size: int, how: Propagation, short_side: int | None
) -> Iterator[FollowedFrame]:
    """Carry the labels of the first frame of a video through all others.

    One frame and its context are in memory. All frames get the size of the first one.

    Args:
        sequence: The files of the video.
        extract: Gives features of images, of one or more layers.
        patch_size: Side of a patch in pixels.
        how: Settings of the propagation.
        short_side: Short side of frames for the encoder in pixels; None for frames at their own size.

    Yields:
        Every frame, the first included.

    Raises:
        InputError: A file cannot be read, the first annotation has no object, or annotations differ in size.
    """
    first = read_annotation(sequence.annotations[0])
    first = np.where(first == VOID, 0, first).astype(np.uint8)
    objects = number_of_objects(first)
    if not objects:
        raise InputError(
            f'{printable(sequence.annotations[0])} has no object: DAVIS-2017 numbers objects from 1, and {VOID} is '
            'open (masks of DAVIS-2016 are 0 and 255).'
        )
    propagators: list[Propagator] = []
    size = (0, 0)
    for number, (path, stem) in enumerate(zip(sequence.frames, sequence.stems, strict=True)):
        image = LoadImage().transform({'img_path': path})['img']
        if not number:
            height, width = image.shape[:2]
            size = input_size(height, width, patch_size, short_side)
        layers, grid = extract([torch.from_numpy(resize_frame(image, size)).permute(2, 0, 1)])
        if not number:
            for features in layers:
                labels = first_labels(first, objects, grid, how).to(features.device)
                propagators.append(Propagator(features[0], labels, grid, how))
            predicted = (first,) * len(propagators)
        else:
            soft = (each.step(features[0]) for each, features in zip(propagators, layers, strict=True))
            predicted = tuple(hard_labels(each, grid, size, first.shape, how) for each in soft)
        annotated = _annotation(sequence.annotations[number], first)
        yield FollowedFrame(number, stem, image, annotated, predicted, objects, size, grid)


def resize_frame(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels ``[H, W, 3]`` uint8 at another size: bilinear, without antialiasing, as OpenCV does by default."""
    return imresize(image, size[::-1], interpolation='bilinear')


def _annotation(path: str, first: np.ndarray) -> np.ndarray:
    """A true index map of the size of the first one."""
    found = read_annotation(path)
    if found.shape != first.shape:
        (height, width), (rows, columns) = found.shape, first.shape
        raise InputError(
            f'{printable(path)} is {height} x {width} and the first annotation of its sequence {rows} x {columns}: '
            'get the data set anew.'
        )
    return np.where(found == VOID, 0, found).astype(np.uint8)
