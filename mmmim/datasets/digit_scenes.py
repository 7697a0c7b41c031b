"""DigitScenes on disk, and as a data set."""

import json
import logging
import os
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from mmengine.logging import print_log
from PIL import Image

from mmmim.registry import DATASETS
from mmmim.utils import InputError

from .digit_scenes_generator import NUM_IMAGES, SPLITS, SUBSETS, VERSION, Scenes, checksum, generate
from .image_folder import ImageFolder

#: Of the decoded pixels, label maps and classes of version 1.
CHECKSUMS = {
    'single': {
        'train': 'c67a8102a641fce384619dfde682bc1d35bbf1afd5e54a86ef14ef7afd3730ac',
        'val': '2552339ba89ff05a8b93cc9c4db27cf94eb20a0aab6b6c092b7b12e0b5158b9a',
        'test': '57de658b344a22c23d790aa2bc97106b211d5965cc555b8a23124603933c2589',
    },
    'multi': {
        'train': '70e934300c2d18389744e379b643f66edbeb7e0a6f796f80aa8275f5aef965e9',
        'val': '90d3b344745d323327f45b7bfe72730d3e9c2f4f5437cbf012f88ed7c0ff04c2',
        'test': 'd35f25addcdf7ad6bcba08b80d8406b30a23d9c74afdf1105f8285574f397216',
    },
}

#: ADE20K's names of the splits.
ADE20K_SPLITS = {'train': 'training', 'val': 'validation', 'test': 'test'}
_META = 'meta.json'


@DATASETS.register_module()
class DigitScenes(ImageFolder):
    """Handwritten digits on crops of photographs, written to disk on first use.

    Every image has a label map, ``seg_map_path``: 1 for the background, 2 to 11 for the digits; 0 is not used.

    Args:
        data_root: Where the data are, or will be written.
        subset: ``single`` (32 px, one digit; the class is the digit) or ``multi`` (64 px, one to five smaller digits;
            the class is their number).
        split: ``train``, ``val`` or ``test``.
        with_label: Give every image its class. Defaults to True.
        **kwargs: Further arguments of :class:`ImageFolder`.

    Raises:
        InputError: If there is no such subset or split, or ``data_root`` holds other or incomplete data.
    """

    METAINFO: ClassVar[dict] = {'ignored_labels': (0,)}

    def __init__(
        self,
        data_root: str = 'data/digit_scenes',
        subset: str = 'single',
        split: str = 'train',
        with_label: bool = True,
        **kwargs: Any,
    ) -> None:
        if split not in SPLITS:
            raise InputError(f'DigitScenes has no split {split!r}: give one of {", ".join(SPLITS)}')
        folder = write_digit_scenes(data_root, subset)
        self._expected = NUM_IMAGES[subset][split]
        self._label_maps = folder / 'annotations' / ADE20K_SPLITS[split]
        super().__init__(data_root=str(folder / split), with_label=with_label, **kwargs)

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


def write_digit_scenes(data_root: str | os.PathLike, subset: str) -> Path:
    """Write a subset of DigitScenes, unless it is there already.

    The folder appears as a whole or not at all. Of several processes that write it at once, one wins.

    Args:
        data_root: The folder that holds the subsets.
        subset: ``single`` or ``multi``.

    Returns:
        The folder of the subset.

    Raises:
        InputError: If there is no such subset, the folder cannot be written, or other data or another version of the
            data lie there.
    """
    if subset not in SUBSETS:
        raise InputError(f'DigitScenes has no subset {subset!r}: give one of {", ".join(SUBSETS)}')
    root = Path(data_root).expanduser()
    folder = root / subset
    if not os.path.lexists(folder):
        print_log(f'Writing DigitScenes to {folder}, once; it takes some seconds.', logger='current')
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=f'.{subset}-') as temporary:
                _write(Path(temporary) / subset, subset)
                try:
                    os.rename(Path(temporary) / subset, folder)
                except OSError:
                    if not folder.is_dir():  # otherwise another process was faster
                        raise
        except OSError as error:
            raise InputError(
                f'cannot write DigitScenes to {folder} ({error}): set data_root to another folder'
            ) from None
    _check(folder)
    return folder


def _write(folder: Path, subset: str) -> None:
    checksums = {}
    for split in SPLITS:
        scenes = generate(subset, split)
        checksums[split] = checksum(scenes)
        _write_split(folder, split, scenes)
    if checksums != CHECKSUMS[subset]:
        print_log(
            f'DigitScenes {subset} differs from the reference data, probably because the JPEG decoder of this machine '
            f'rounds differently: results will be close to, not the same as, those on the reference data.',
            logger='current',
            level=logging.WARNING,
        )
    meta = {'version': VERSION, 'subset': subset, 'checksums': checksums}
    (folder / _META).write_text(json.dumps(meta, indent=2) + '\n')


def _write_split(folder: Path, split: str, scenes: Scenes) -> None:
    images, annotations = (folder / kind / ADE20K_SPLITS[split] for kind in ('images', 'annotations'))
    images.mkdir(parents=True)
    annotations.mkdir(parents=True)
    for label in sorted(set(scenes.classes.tolist())):
        (folder / split / str(label)).mkdir(parents=True)
    for i, (image, label_map, label) in enumerate(zip(*scenes, strict=True)):
        name = f'{i:05d}.png'
        path = folder / split / str(label) / name
        # Uncompressed: such small files take the same disk blocks either way, and are written in half the time.
        Image.fromarray(image).save(path, compress_level=0)
        Image.fromarray(label_map).save(annotations / name, compress_level=1)
        try:
            os.link(path, images / name)
        except OSError:  # file systems without hard links
            Image.fromarray(image).save(images / name, compress_level=0)


def _check(folder: Path) -> None:
    """Fail unless a complete subset of this version lies there: its meta file is written last."""
    try:
        meta = json.loads((folder / _META).read_text())
        found = (meta['subset'], meta['version'])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(
            f'{folder} is not a complete DigitScenes folder: delete it, it will be written anew, or set data_root'
        ) from None
    if found != (folder.name, VERSION):
        raise InputError(
            f'{folder} holds DigitScenes {found[0]} of version {found[1]}, this release reads {folder.name} of version '
            f'{VERSION}: delete it, it will be written anew, or set data_root to another folder'
        )
