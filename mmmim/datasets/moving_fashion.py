"""MovingFashion on disk, in DAVIS's layout, and as a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar

from PIL import Image

from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.options import Count, Range, Seed

from .checked import Origin
from .davis import ANNOTATIONS, FEWEST_FRAMES, FRAMES, LISTS, VideoSequences, save_indices
from .fashion_scenes_generator import EMBEDDED, split_items
from .moving_fashion_generator import VERSION, Clip, checksum, generate_clip
from .scenes import read_meta, warn_of_pixels, write_once

#: Of the frames and indices of version 1 with the default settings.
CHECKSUM = '8d7fbfc2cb9979d32bfd367f87f03d2dc29d5e9ca3cc6854c0000d8d8ce963e3'

#: What indices of 8 bits can tell apart, beside the background and void.
Objects = Annotated[int, Range(1, 254)]


@DATASETS.register_module()
class MovingFashion(VideoSequences):
    """Garments that move over photographs, with the mask of each: videos that run everywhere, written on first use.

    The garments are those of the test images of Fashion-MNIST that come with mmmim, the backgrounds the halves of
    photographs that FashionScenes tests on: a model that was trained on FashionScenes has seen neither. Garments are
    grey, bounce off the borders, change their size and cover each other; the background moves and the light changes.
    Frames are 64 x 96, 64 x 112 and 96 x 64 pixels in turns.

    Args:
        data_root: Where the data are, or will be written.
        sequences: Number of videos.
        frames: Number of frames of each.
        objects: Fewest and most garments of a video.
        seed: Seed of all videos.
        indices: Number of sequences that are taken, the first ones; None for all.

    Raises:
        InputError: ``data_root`` holds other or incomplete data or cannot be written, or a number makes no sense.
    """

    origin = Origin('MovingFashion', f'{FRAMES}, {ANNOTATIONS} and {LISTS}/val.txt', 'movingfashion-videos-no-download')

    #: Nothing has to be downloaded.
    embedded: ClassVar[bool] = True

    def __init__(
        self,
        data_root: str = 'data/moving_fashion',
        sequences: Count = 12,
        frames: Annotated[int, Range(FEWEST_FRAMES)] = 24,
        objects: tuple[Objects, Objects] = (2, 5),
        seed: Seed = 0,
        indices: Count | None = None,
    ) -> None:
        if objects[0] > objects[1]:
            raise InputError(f'mmmim.MovingFashion.objects={tuple(objects)}: give the smaller number first.')
        settings = {'sequences': sequences, 'frames': frames, 'objects': list(objects), 'seed': seed}
        super().__init__(str(write_moving_fashion(data_root, settings)), 'val', indices)


#: The settings that :data:`CHECKSUM` is of.
DEFAULT = {'sequences': 12, 'frames': 24, 'objects': [2, 5], 'seed': 0}


def write_moving_fashion(data_root: str, settings: Mapping[str, Any]) -> Path:
    """Write MovingFashion, unless it is there already.

    Args:
        data_root: Folder that holds the data, or will.
        settings: Numbers of ``sequences``, ``frames``, ``objects`` (fewest and most) and the ``seed``.

    Returns:
        The folder.

    Raises:
        InputError: It cannot be written, or other data or another version of the data lie there.
    """
    folder = Path(data_root).expanduser()

    def write(new: Path) -> dict[str, Any]:
        items = split_items(EMBEDDED, 'test')
        options = settings['frames'], (settings['objects'][0], settings['objects'][1]), settings['seed']
        clips = [generate_clip(items, number, *options) for number in range(settings['sequences'])]
        found = checksum(clips)
        if settings == DEFAULT and found != CHECKSUM:
            warn_of_pixels('MovingFashion')
        names = [f'garments-{number:03d}' for number in range(len(clips))]
        for name, clip in zip(names, clips, strict=True):
            _write_clip(new, name, clip)
        (new / LISTS).mkdir(parents=True)
        (new / LISTS / 'val.txt').write_text(''.join(f'{name}\n' for name in names))
        return {'version': VERSION, 'settings': dict(settings), 'checksum': found}

    write_once('MovingFashion', folder, write)
    meta = read_meta('MovingFashion', folder, lambda found: isinstance(found['settings'], dict))
    if (meta['version'], meta['settings']) != (VERSION, dict(settings)):
        raise InputError(
            f'{folder} holds MovingFashion of version {meta["version"]} with {meta["settings"]}, and version {VERSION} '
            f'with {dict(settings)} is asked for: delete it, it will be written anew, or set data_root to another '
            'folder.'
        )
    return folder


def _write_clip(folder: Path, name: str, clip: Clip) -> None:
    frames, annotations = (folder / kind / name for kind in (FRAMES, ANNOTATIONS))
    for each in (frames, annotations):
        each.mkdir(parents=True)
    for number, (image, indices) in enumerate(zip(*clip, strict=True)):
        Image.fromarray(image).save(frames / f'{number:05d}.png', compress_level=1)
        save_indices(indices, annotations / f'{number:05d}.png')
