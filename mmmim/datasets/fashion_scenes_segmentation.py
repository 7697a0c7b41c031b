"""FashionScenes for segmentation."""

from typing import Any, ClassVar

from mmseg.datasets import BaseSegDataset

from mmmim.registry import DATASETS

from .fashion_scenes import write_fashion_scenes
from .fashion_scenes_generator import CLASSES
from .scenes import PALETTE, check_split, segmentation_layout


@DATASETS.register_module()
class FashionScenesSegmentation(BaseSegDataset):
    """FashionScenes as a data set of mmsegmentation: the background and ten kinds of garments.

    It is written to disk on first use.

    As in ADE20K, label 0 of the files is not used (``reduce_zero_label``): the background is class 0, garments of
    class c have c + 1.

    Importing this module imports mmsegmentation, so configs name it: ``custom_imports = dict(imports=[
    'mmmim.datasets.fashion_scenes_segmentation'])``.

    Args:
        data_root: Where the data are, or will be written.
        subset: ``single`` (32 px, one garment) or ``multi`` (64 px, one to five smaller ones on a photograph).
        split: ``train``, ``val`` or ``test``.
        source: The folder with the four files of the whole of Fashion-MNIST; ``data_root`` must then be another folder.
            Defaults to None, the part that comes with mmmim.
        **kwargs: Further arguments of mmsegmentation's ``BaseSegDataset``: ``pipeline``, ``indices``, ``ignore_index``,
            ...

    Raises:
        InputError: There is no such subset or split, or ``data_root`` holds other data.
    """

    #: Nothing has to be downloaded, but for a ``source``.
    embedded: ClassVar[bool] = True

    METAINFO: ClassVar[dict] = {
        'classes': ('background', *CLASSES),
        'palette': PALETTE,
    }

    def __init__(
        self,
        data_root: str = 'data/fashion_scenes',
        subset: str = 'single',
        split: str = 'train',
        source: str | None = None,
        **kwargs: Any,
    ) -> None:
        check_split('FashionScenes', split)
        folder = write_fashion_scenes(data_root, subset, source)
        super().__init__(**segmentation_layout(folder, split), **kwargs)
