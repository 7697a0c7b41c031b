"""DigitScenes for segmentation."""

from typing import Any, ClassVar

from mmseg.datasets import BaseSegDataset

from mmmim.registry import DATASETS

from .digit_scenes import write_digit_scenes
from .scenes import PALETTE, check_split, segmentation_layout


@DATASETS.register_module()
class DigitScenesSegmentation(BaseSegDataset):
    """DigitScenes as a data set of mmsegmentation: the background and ten digits, written to disk on first use.

    As in ADE20K, label 0 of the files is not used (``reduce_zero_label``): the background is class 0, digit d is class
    d + 1.

    Importing this module imports mmsegmentation, so configs name it: ``custom_imports = dict(imports=[
    'mmmim.datasets.digit_scenes_segmentation'])``.

    Args:
        data_root: Where the data are, or will be written.
        subset: ``single`` (32 px, one digit) or ``multi`` (64 px, one to five smaller digits).
        split: ``train``, ``val`` or ``test``.
        **kwargs: Further arguments of mmsegmentation's ``BaseSegDataset``: ``pipeline``, ``indices``, ``ignore_index``,
            ...

    Raises:
        InputError: There is no such subset or split, or ``data_root`` holds other data.
    """

    METAINFO: ClassVar[dict] = {
        'classes': ('background', *(f'digit {digit}' for digit in range(10))),
        'palette': PALETTE,
    }

    def __init__(
        self, data_root: str = 'data/digit_scenes', subset: str = 'single', split: str = 'train', **kwargs: Any
    ) -> None:
        check_split('DigitScenes', split)
        folder = write_digit_scenes(data_root, subset)
        super().__init__(**segmentation_layout(folder, split), **kwargs)
