"""What a user names on a command line: images, their size, a picture, a device."""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Sequence

import torch

from mmmim.apis.models import CHECKPOINTS, get_model
from mmmim.checkpoints.pretrained import RANDOM
from mmmim.config.weights import published
from mmmim.datasets.image_folder import IMAGE_EXTENSIONS, list_images
from mmmim.datasets.squares import nearest_multiple
from mmmim.features import FeatureExtractor
from mmmim.models.backbones.libraries import split_source
from mmmim.utils import InputError
from mmmim.utils.files import read_regular
from mmmim.utils.names import printable

#: Of the longest list of paths.
_LIST_BYTES = 2**30


def find_images(sources: Sequence[str], limit: int) -> list[str]:
    """Paths of image files, and of the images below folders.

    Args:
        sources: Files and folders.
        limit: More images than this are thinned out evenly, so that a few of every class folder remain.

    Returns:
        At most ``limit`` paths.

    Raises:
        InputError: Something does not exist, or a folder holds no images.
    """
    _check_limit(limit)
    paths: list[str] = []
    for source in sources:
        if os.path.isfile(source):
            paths.append(source)
        elif os.path.isdir(source):
            paths += [os.path.join(source, name) for name in _names(source)]
        else:
            raise InputError(f'There is no image file or folder {printable(source)}.')
    return _thin_out(paths, limit)


def list_sources(source: str) -> tuple[str, list[str]]:
    """All images that one word names, in the order of :class:`mmmim.ImageFolder`, or of a list.

    Args:
        source: A folder, an image, or a text file with a path a line, from the current folder.

    Returns:
        The folder, '' for the current one, and paths from there.

    Raises:
        InputError: There is no such thing, or it names no images.
    """
    if os.path.isdir(source):
        return source, _names(source)
    if not os.path.isfile(source):
        raise InputError(f'There is no image, list of paths or folder {printable(source)}.')
    suffix = os.path.splitext(source)[1].lower()
    if suffix in IMAGE_EXTENSIONS:
        return '', [source]
    if suffix != '.txt':
        raise InputError(
            f'{printable(source)} is neither an image ({", ".join(IMAGE_EXTENSIONS)}) nor a list of paths (.txt).'
        )
    try:
        lines = read_regular(source, _LIST_BYTES).decode().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'The list {printable(source)} cannot be read: {error}.') from None
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise InputError(f'The list {printable(source)} names no images: write a path a line.')
    return '', names


def find_classes(folder: str, classes: Sequence[str] | None, limit: int) -> dict[str, list[str]]:
    """Paths of the images of every class of a folder in ImageNet's layout: the topmost sub-folder is the class.

    Args:
        folder: Images beside the sub-folders are left out; without sub-folders all images are one class, of the
            folder's name.
        classes: Only these; None for all.
        limit: More images of a class are thinned out evenly.

    Returns:
        At most ``limit`` paths by class, in the order of ``classes`` or sorted.

    Raises:
        InputError: The folder does not exist or holds no images, or there is no such class.
    """
    _check_limit(limit)
    if not os.path.isdir(folder):
        raise InputError(f'There is no folder {printable(folder)}.')
    found: dict[str, list[str]] = {}
    names = _names(folder)
    for name in names:
        top, slash, _ = name.partition(os.sep)
        if slash:
            found.setdefault(top, []).append(os.path.join(folder, name))
    if not found and classes is None:
        found = {os.path.basename(os.path.abspath(folder)): [os.path.join(folder, name) for name in names]}
    for name in classes or ():
        if name not in found:
            known = ', '.join(printable(name) for name in [*found][:10]) + (', ...' if len(found) > 10 else '')
            close = difflib.get_close_matches(name, found, n=1)
            raise InputError(
                f'There is no class folder {printable(name)} with images in {printable(folder)}. '
                + (f'Did you mean {printable(close[0])}? ' if close else '')
                + (f'There are {known}.' if found else 'It has none: its images have no classes.')
            )
    return {name: _thin_out(found[name], limit) for name in classes or sorted(found)}


def _check_limit(limit: int) -> None:
    if limit < 1:
        raise InputError(f'At most {limit} images: give a number of 1 or more.')


def _names(folder: str) -> list[str]:
    """Of the images below a folder."""
    names, _ = list_images(folder, IMAGE_EXTENSIONS)
    if not names:
        raise InputError(f'No images in {printable(folder)}: looked for {", ".join(sorted(IMAGE_EXTENSIONS))}.')
    return names


def _thin_out(paths: list[str], limit: int) -> list[str]:
    """At most ``limit`` of the paths, spread evenly."""
    if len(paths) <= limit:
        return paths
    return [paths[(2 * i + 1) * len(paths) // (2 * limit)] for i in range(limit)]


def pick_device(name: str | None) -> torch.device:
    """The device of a name, or a GPU where there is one.

    Raises:
        InputError: There is no such device.
    """
    try:
        device = torch.device(name or ('cuda' if torch.cuda.is_available() else 'cpu'))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # unknown names, and builds of torch without the device
        raise InputError(f'--device {name} cannot be used: {str(error).splitlines()[0]}') from None
    return device


def load_model(args: argparse.Namespace, seed: int = 0) -> FeatureExtractor:
    """The encoder that a command line names, on its device.

    Args:
        args: What :func:`mmmim.cli.arguments.add_model_options` adds, and ``checkpoint``.
        seed: Seed of random weights, which are the same every time.

    Raises:
        InputError: There is no such model or device, or its weights do not fit.
    """
    torch.manual_seed(seed)
    device = str(pick_device(args.device))
    return get_model(args.checkpoint, args.weights, device, args.trust_checkpoint)


def model_title(args: argparse.Namespace) -> str:
    """What pictures call the encoder that a command line names."""
    name = args.checkpoint.removesuffix(f'={RANDOM}')
    return name + (' (random initialisation)' if is_random(args.checkpoint) else '')


def is_random(checkpoint: str) -> bool:
    """Whether what a command line names as a checkpoint stands for random weights."""
    if (foreign := split_source(checkpoint)) is not None:
        return foreign[1] == RANDOM
    return not checkpoint.endswith(CHECKPOINTS) and published(checkpoint) is None


def fitting_size(asked: int, extractor: FeatureExtractor) -> int:
    """A side of square images that the patch size divides, near the one that is asked for; says so if it is another."""
    size = nearest_multiple(asked, extractor.patch_size)
    if size != asked:
        print(f'The patch size {extractor.patch_size} does not divide {asked}: {size} pixels instead.')
    return size
