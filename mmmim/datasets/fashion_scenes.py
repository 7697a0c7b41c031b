"""FashionScenes on disk, and as a data set."""

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

from .fashion_scenes_generator import CLASSES, EMBEDDED, SPLITS, SUBSETS, VERSION, Scenes, checksum, generate
from .image_folder import ImageFolder

#: Of the decoded pixels, label maps and classes of version 1, from the garments that mmmim brings along.
CHECKSUMS = {
    'single': {
        'train': '8ea843306eef55a942c09def12fe03cac88c7a1b7f504e9baa353635c708826b',
        'val': '6da9063cce9cfa2c35289a5e7abb33752eccfc441a385273010f6f04699a239e',
        'test': '18c1d659ed4bc1484e041e165b0f8fc61b397662488f40c4b9ef5d184a689179',
    },
    'multi': {
        'train': 'dc4a99e1698a8fee84c40db2eaf0c8fa628a1b242dd96e1fe22567921afe920e',
        'val': '7f7c291e2c0df5725dddfcc1815a92c85e2221b5cdb7799d62aa2d70ccc8d13a',
        'test': '228a38e2df217cf919783a478e378cbbd6166d45bfd4c5f8d108606a07b2f4d9',
    },
}

#: ADE20K's names of the splits.
ADE20K_SPLITS = {'train': 'training', 'val': 'validation', 'test': 'test'}
_META = 'meta.json'


@DATASETS.register_module()
class FashionScenes(ImageFolder):
    """Photographs of garments, alone or in collages, written to disk on first use.

    The garments are Fashion-MNIST's; 10 000 training and 2 000 test images of it come with mmmim, so nothing is
    downloaded. Every image has a label map, ``seg_map_path``: 1 for the background, 2 to 11 for the classes of
    garments; 0 is not used.

    Args:
        data_root: Where the data are, or will be written.
        subset: ``single`` (32 px, one garment; the class is its kind) or ``multi`` (64 px, one to five smaller garments
            on a photograph; the class is their number).
        split: ``train``, ``val`` (a tenth of the training images) or ``test``.
        source: The folder with the four files of the whole of Fashion-MNIST; ``data_root`` must then be another folder.
            Defaults to None, the part that comes with mmmim.
        with_label: Give every image its class. Defaults to True.
        **kwargs: Further arguments of :class:`ImageFolder`.

    Raises:
        InputError: If there is no such subset or split, ``source`` is not Fashion-MNIST, or ``data_root`` holds other
            or incomplete data.
    """

    METAINFO: ClassVar[dict] = {'ignored_labels': (0,)}

    def __init__(
        self,
        data_root: str = 'data/fashion_scenes',
        subset: str = 'single',
        split: str = 'train',
        source: str | None = None,
        with_label: bool = True,
        **kwargs: Any,
    ) -> None:
        if split not in SPLITS:
            raise InputError(f'FashionScenes has no split {split!r}: give one of {", ".join(SPLITS)}')
        folder = write_fashion_scenes(data_root, subset, source)
        self._expected = number_of_images(folder)[split]
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


def write_fashion_scenes(data_root: str | os.PathLike, subset: str, source: str | os.PathLike | None = None) -> Path:
    """Write a subset of FashionScenes, unless it is there already.

    The folder appears as a whole or not at all. Of several processes that write it at once, one wins.

    Args:
        data_root: The folder that holds the subsets.
        subset: ``single`` or ``multi``.
        source: The folder of the whole of Fashion-MNIST; None for the part that comes with mmmim.

    Returns:
        The folder of the subset.

    Raises:
        InputError: If there is no such subset, the folder cannot be written, ``source`` is not Fashion-MNIST, or other
            data or another version of the data lie there.
    """
    if subset not in SUBSETS:
        raise InputError(f'FashionScenes has no subset {subset!r}: give one of {", ".join(SUBSETS)}')
    root = Path(data_root).expanduser()
    folder = root / subset
    if not os.path.lexists(folder):
        print_log(f'Writing FashionScenes to {folder}, once; it takes some seconds.', logger='current')
        scenes = {split: generate(subset, split, EMBEDDED if source is None else source) for split in SPLITS}
        try:
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=f'.{subset}-') as temporary:
                _write(Path(temporary) / subset, subset, scenes, embedded=source is None)
                try:
                    os.rename(Path(temporary) / subset, folder)
                except OSError:
                    if not folder.is_dir():  # otherwise another process was faster
                        raise
        except OSError as error:
            raise InputError(
                f'cannot write FashionScenes to {folder} ({error}): set data_root to another folder'
            ) from None
    _check(folder, embedded=source is None)
    return folder


def number_of_images(folder: Path) -> dict[str, int]:
    """How many images each split of a subset has that :func:`write_fashion_scenes` has written to this folder."""
    images: dict[str, int] = _read_meta(folder)['images']
    return {split: images[split] for split in SPLITS}


def class_folder(subset: str, label: int) -> str:
    """The name of the folder of a class: its number, and for garments its name."""
    return f'{label} {CLASSES[label]}'.replace(' ', '_') if subset == 'single' else str(label)


def _write(folder: Path, subset: str, scenes: dict[str, Scenes], embedded: bool) -> None:
    checksums = {split: checksum(scenes[split]) for split in SPLITS}
    if embedded and checksums != CHECKSUMS[subset]:
        print_log(
            f'FashionScenes {subset} differs from the reference data, probably because the JPEG decoder of this '
            f'machine rounds differently: results will be close to, not the same as, those on the reference data.',
            logger='current',
            level=logging.WARNING,
        )
    for split in SPLITS:
        _write_split(folder, subset, split, scenes[split])
    meta = {
        'version': VERSION,
        'subset': subset,
        'embedded': embedded,
        'images': {split: len(scenes[split].classes) for split in SPLITS},
        'checksums': checksums,
    }
    (folder / _META).write_text(json.dumps(meta, indent=2) + '\n')


def _write_split(folder: Path, subset: str, split: str, scenes: Scenes) -> None:
    images, annotations = (folder / kind / ADE20K_SPLITS[split] for kind in ('images', 'annotations'))
    images.mkdir(parents=True)
    annotations.mkdir(parents=True)
    classes = {label: folder / split / class_folder(subset, label) for label in set(scenes.classes.tolist())}
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


def _read_meta(folder: Path) -> dict[str, Any]:
    """What the meta file says, which is written last: a subset without it is not complete."""
    try:
        meta = json.loads((folder / _META).read_text())
        if all(isinstance(meta['images'][split], int) for split in SPLITS):
            return {key: meta[key] for key in ('version', 'subset', 'embedded', 'images')}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise InputError(
        f'{folder} is not a complete FashionScenes folder: delete it, it will be written anew, or set data_root'
    )


def _check(folder: Path, embedded: bool) -> None:
    """Fail unless a complete subset of this version and source lies there."""
    meta = _read_meta(folder)
    found = (meta['subset'], meta['version'])
    if found != (folder.name, VERSION):
        raise InputError(
            f'{folder} holds FashionScenes {found[0]} of version {found[1]}, this release reads {folder.name} of '
            f'version {VERSION}: delete it, it will be written anew, or set data_root to another folder'
        )
    if meta['embedded'] is not embedded:
        held, asked = ('the part', 'the whole') if meta['embedded'] else ('the whole', 'the part')
        raise InputError(
            f'{folder} holds FashionScenes from {held} of Fashion-MNIST and {asked} is asked for: set data_root to '
            f'another folder'
        )
