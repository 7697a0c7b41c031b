"""Generated data sets on disk, in ImageNet's and in ADE20K's layout: written once, whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mmengine.logging import print_log
from PIL import Image

from mmmim.utils import InputError

from .image_folder import ImageFolder
from .scenes_generator import SPLITS, SUBSETS, Scenes, checksum

#: ADE20K's names of the splits.
ADE20K_SPLITS = {'train': 'training', 'val': 'validation', 'test': 'test'}

#: Colours of the background and ten classes.
PALETTE = [
    [70, 70, 70],
    [230, 25, 75],
    [60, 180, 75],
    [255, 225, 25],
    [0, 130, 200],
    [245, 130, 48],
    [145, 30, 180],
    [70, 240, 240],
    [240, 50, 230],
    [210, 245, 60],
    [250, 190, 212],
]
_META = 'meta.json'


class ScenesDataset(ImageFolder):
    """One split of a generated data set: images, and with each its label map, ``seg_map_path``.

    Args:
        folder: The folder that :func:`write_scenes` has written.
        split: ``train``, ``val`` or ``test``.
        expected: Number of images that the split must have.
        **kwargs: Further arguments of :class:`ImageFolder`.

    Raises:
        InputError: If the split has another number of images.
    """

    METAINFO: ClassVar[dict] = {'ignored_labels': (0,)}

    def __init__(self, folder: Path, split: str, expected: int, **kwargs: Any) -> None:
        self._expected = expected
        self._label_maps = folder / 'annotations' / ADE20K_SPLITS[split]
        super().__init__(data_root=str(folder / split), **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images of the split."""
        samples = super().load_data_list()
        if len(samples) != self._expected:
            folder = Path(self.img_prefix).parent
            raise InputError(
                f'{self.img_prefix} holds {len(samples)} images instead of {self._expected}: delete {folder}, it will '
                f'be written anew'
            )
        return samples

    def get_data_info(self, idx: int) -> dict:
        """Path, class and label map of an image."""
        info = super().get_data_info(idx)
        return {**info, 'seg_map_path': str(self._label_maps / Path(info['img_path']).name)}


def segmentation_layout(folder: Path, split: str) -> dict[str, Any]:
    """Where mmsegmentation's ``BaseSegDataset`` finds a split, as its arguments; label 0 is left out, as in ADE20K."""
    name = ADE20K_SPLITS[split]
    return {
        'data_root': str(folder),
        'data_prefix': {'img_path': f'images/{name}', 'seg_map_path': f'annotations/{name}'},
        'img_suffix': '.png',
        'seg_map_suffix': '.png',
        'reduce_zero_label': True,
    }


def check_split(title: str, split: str) -> None:
    """Refuse a split that a data set does not have.

    Raises:
        InputError: There is no such split.
    """
    if split not in SPLITS:
        raise InputError(f'{title} has no split {split!r}: give one of {", ".join(SPLITS)}')


def write_scenes(
    title: str,
    data_root: str | os.PathLike,
    subset: str,
    version: int,
    make: Callable[[str], Scenes],
    reference: Mapping[str, Mapping[str, str]] | None,
    class_folder: Callable[[int], str] = str,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Write a subset of a data set, unless it is there already.

    The folder appears as a whole or not at all. Of several processes that write it at once, one wins.

    Args:
        title: Name of the data set, for messages.
        data_root: The folder that holds the subsets.
        subset: ``single`` or ``multi``.
        version: Version of the data, which an existing folder must have, too.
        make: Generates a split.
        reference: Checksums of the splits by subset, which are compared; None to compare nothing.
        class_folder: Name of the folder of a class.
        about: What else the meta file says.

    Returns:
        The folder of the subset.

    Raises:
        InputError: If there is no such subset, the folder cannot be written, or other data or another version of the
            data lie there.
    """
    if subset not in SUBSETS:
        raise InputError(f'{title} has no subset {subset!r}: give one of {", ".join(SUBSETS)}')
    folder = Path(data_root).expanduser() / subset

    def write(new: Path) -> dict[str, Any]:
        scenes = {split: make(split) for split in SPLITS}
        checksums = {split: checksum(scenes[split]) for split in SPLITS}
        if reference is not None and checksums != reference[subset]:
            warn_of_pixels(f'{title} {subset}')
        for split in SPLITS:
            _write_split(new, split, scenes[split], class_folder)
        images = {split: len(scenes[split].classes) for split in SPLITS}
        return {'version': version, 'subset': subset, **(about or {}), 'images': images, 'checksums': checksums}

    write_once(title, folder, write)
    meta = read_meta(title, folder, lambda found: 'subset' in found)
    if (meta['subset'], meta['version']) != (subset, version):
        raise InputError(
            f'{folder} holds {title} {meta["subset"]} of version {meta["version"]}, this release reads {subset} of '
            f'version {version}: delete it, it will be written anew, or set data_root to another folder'
        )
    return folder


def write_once(title: str, folder: Path, write: Callable[[Path], Mapping[str, Any]]) -> None:
    """Write a folder as a whole, unless it is there already. Of several processes that write it at once, one wins.

    Args:
        title: Name of the data set, for messages.
        folder: Folder that is written; those above it are made.
        write: Writes into the folder that it is given, which does not exist, and gives what the meta file says.

    Raises:
        InputError: It cannot be written.
    """
    if os.path.lexists(folder):
        return
    print_log(f'Writing {title} to {folder}, once; it takes some seconds.', logger='current')
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f'.{folder.name}-') as temporary:
            new = Path(temporary) / folder.name
            meta = write(new)
            (new / _META).write_text(json.dumps(meta, indent=2) + '\n')
            try:
                os.rename(new, folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was faster
                    raise
    except OSError as error:
        raise InputError(f'cannot write {title} to {folder} ({error}): set data_root to another folder') from None


def read_meta(title: str, folder: Path, valid: Callable[[dict[str, Any]], bool] = bool) -> dict[str, Any]:
    """What the meta file of a subset says, which is written last: a subset without it is not complete.

    Args:
        title: Name of the data set, for messages.
        folder: The folder of the subset.
        valid: Whether the rest of it is as it must be; a missing key means that it is not.

    Raises:
        InputError: If the subset is not complete.
    """
    try:
        meta = json.loads((folder / _META).read_text())
        if 'version' in meta and valid(meta):
            return meta
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise InputError(f'{folder} is not a complete {title} folder: delete it, it will be written anew, or set data_root')


def warn_of_pixels(what: str) -> None:
    """Say that a generated data set is not the reference, which happens where photographs are decoded differently."""
    print_log(
        f'{what} differs from the reference data, probably because the JPEG decoder of this machine rounds '
        f'differently: results will be close to, not the same as, those on the reference data.',
        logger='current',
        level=logging.WARNING,
    )


def _write_split(folder: Path, split: str, scenes: Scenes, class_folder: Callable[[int], str]) -> None:
    images, annotations = (folder / kind / ADE20K_SPLITS[split] for kind in ('images', 'annotations'))
    images.mkdir(parents=True)
    annotations.mkdir(parents=True)
    classes = {label: folder / split / class_folder(label) for label in set(scenes.classes.tolist())}
    for path in classes.values():
        path.mkdir(parents=True)
    for i, (image, label_map, label) in enumerate(zip(*scenes, strict=True)):
        name = f'{i:05d}.png'
        path = classes[int(label)] / name
        # Uncompressed: such small files take the same disk blocks either way, and are written in half the time.
        Image.fromarray(image).save(path, compress_level=0)
        Image.fromarray(label_map).save(annotations / name, compress_level=1)
        try:
            os.link(path, images / name)
        except OSError:  # file systems without hard links
            Image.fromarray(image).save(images / name, compress_level=0)
