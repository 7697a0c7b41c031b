"""DigitScenes on disk, and as a data set."""

import os
from pathlib import Path
from typing import Any

from mmmim.registry import DATASETS

from .digit_scenes_generator import NUM_IMAGES, VERSION, generate
from .scenes import ScenesDataset, check_split, write_scenes

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


@DATASETS.register_module()
class DigitScenes(ScenesDataset):
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

    def __init__(
        self,
        data_root: str = 'data/digit_scenes',
        subset: str = 'single',
        split: str = 'train',
        with_label: bool = True,
        **kwargs: Any,
    ) -> None:
        check_split('DigitScenes', split)
        folder = write_digit_scenes(data_root, subset)
        super().__init__(folder, split, NUM_IMAGES[subset][split], with_label=with_label, **kwargs)


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
    return write_scenes('DigitScenes', data_root, subset, VERSION, lambda split: generate(subset, split), CHECKSUMS)
