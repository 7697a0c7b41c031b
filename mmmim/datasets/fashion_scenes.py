"""FashionScenes on disk, and as a data set."""

import os
from pathlib import Path
from typing import Any, ClassVar

from mmmim.registry import DATASETS
from mmmim.utils import InputError

from .fashion_scenes_generator import CLASSES, EMBEDDED, VERSION, generate
from .scenes import ScenesDataset, check_split, read_meta, write_scenes
from .scenes_generator import SPLITS

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


@DATASETS.register_module()
class FashionScenes(ScenesDataset):
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

    #: Nothing has to be downloaded.
    embedded: ClassVar[bool] = True

    def __init__(
        self,
        data_root: str = 'data/fashion_scenes',
        subset: str = 'single',
        split: str = 'train',
        source: str | None = None,
        with_label: bool = True,
        **kwargs: Any,
    ) -> None:
        check_split('FashionScenes', split)
        folder = write_fashion_scenes(data_root, subset, source)
        super().__init__(folder, split, number_of_images(folder)[split], with_label=with_label, **kwargs)


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
    embedded = source is None
    folder = write_scenes(
        'FashionScenes',
        data_root,
        subset,
        VERSION,
        lambda split: generate(subset, split, EMBEDDED if source is None else source),
        CHECKSUMS if embedded else None,
        lambda label: class_folder(subset, label),
        {'embedded': embedded},
    )
    held = _read_meta(folder)['embedded']
    if held is not embedded:
        found, asked = ('the part', 'the whole') if held else ('the whole', 'the part')
        raise InputError(
            f'{folder} holds FashionScenes from {found} of Fashion-MNIST and {asked} is asked for: set data_root to '
            f'another folder'
        )
    return folder


def number_of_images(folder: Path) -> dict[str, int]:
    """How many images each split of a subset has that :func:`write_fashion_scenes` has written to this folder."""
    images: dict[str, int] = _read_meta(folder)['images']
    return {split: images[split] for split in SPLITS}


def class_folder(subset: str, label: int) -> str:
    """The name of the folder of a class: its number, and for garments its name."""
    return f'{label} {CLASSES[label]}'.replace(' ', '_') if subset == 'single' else str(label)


def _read_meta(folder: Path) -> dict[str, Any]:
    def valid(meta: dict[str, Any]) -> bool:
        return 'embedded' in meta and all(isinstance(meta['images'][split], int) for split in SPLITS)

    return read_meta('FashionScenes', folder, valid)
