"""Data sets that mmpretrain reads, with their files checked."""

from __future__ import annotations

import os
from typing import Annotated, Any, ClassVar

from mmpretrain import datasets
from torchvision.datasets import Flowers102 as _Flowers102

from mmmim.datasets.checked import Checked, Origin
from mmmim.registry import DATASETS
from mmmim.utils.options import Range


@DATASETS.register_module()
class Caltech101(Checked, datasets.Caltech101):
    """Caltech101 (Fei-Fei et al. 2004) in mmpretrain's lists: 30 training images of each of 102 classes."""

    origin = Origin(
        'Caltech101',
        '101_ObjectCategories/ of caltech-101.zip, and meta/train.txt and meta/test.txt of caltech_meta.zip',
        'caltech101',
    )


@DATASETS.register_module()
class DTD(Checked, datasets.DTD):
    """The Describable Textures (Cimpoi et al. 2014, arXiv 1311.3618), the first of ten partitions: 47 classes."""

    origin = Origin('DTD', 'images/ and imdb/imdb.mat of dtd-r1.0.1.tar.gz', 'dtd')


@DATASETS.register_module()
class Flowers102(Checked, datasets.Flowers102):
    """The Oxford Flowers (Nilsback and Zisserman 2008), 102 classes."""

    METAINFO: ClassVar[dict] = {'classes': tuple(_Flowers102.classes)}
    origin = Origin('Flowers102', 'jpg/ of 102flowers.tgz, imagelabels.mat and setid.mat', 'oxford-flowers-102')


@DATASETS.register_module()
class OxfordIIITPet(Checked, datasets.OxfordIIITPet):
    """The Oxford-IIIT Pets (Parkhi et al. 2012), 37 classes."""

    origin = Origin(
        'Oxford-IIIT Pets', 'images/ of images.tar.gz and annotations/ of annotations.tar.gz', 'oxford-iiit-pets'
    )


@DATASETS.register_module()
class StanfordCars(Checked, datasets.StanfordCars):
    """Stanford Cars (Krause et al. 2013), 196 classes."""

    origin = Origin(
        'Stanford Cars',
        'cars_train/, cars_test/ and devkit/ with cars_train_annos.mat and cars_test_annos_withlabels.mat',
        'stanford-cars',
    )

    def load_data_list(self) -> list[dict]:
        """Images and classes of the split."""
        mode, self.test_mode = self.test_mode, self.split == 'test'  # by which mmpretrain chooses the images
        try:
            return super().load_data_list()
        finally:
            self.test_mode = mode


@DATASETS.register_module()
class Food101(Checked, datasets.Food101):
    """Food-101 (Bossard et al. 2014), 101 classes."""

    origin = Origin('Food-101', 'images/ and meta/ with train.txt and test.txt, of food-101.tar.gz', 'food-101')


@DATASETS.register_module()
class Places205(Checked, datasets.Places205):
    """Places205 (Zhou et al. 2014), whose lists give every image its class by number."""

    origin = Origin(
        'Places205',
        'images256/ of imagesPlaces205_resize.tar.gz, and train_places205.csv and val_places205.csv of '
        'trainvalsplit_places205.tar.gz',
        'places205',
    )


@DATASETS.register_module()
class SUN397(Checked, datasets.SUN397):
    """SUN397 (Xiao et al. 2010) in one of its ten official partitions: 50 images of each class to train on, 50 to test.

    Args:
        data_root: The folder with ``SUN397/`` and ``Partitions/``.
        split: 'train' or 'test'.
        partition: Number of the partition.
        lazy_init: Whether the lists are read later.
        **kwargs: Further arguments of ``mmpretrain.BaseDataset``.

    Raises:
        InputError: There is no such split or partition, or files are missing or something else.
    """

    origin = Origin(
        'SUN397',
        'SUN397/ of SUN397.tar.gz, and Partitions/ with Training_01.txt to Testing_10.txt of Partitions.zip',
        'sun397',
    )

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        partition: Annotated[int, Range(1, 10)] = 1,
        lazy_init: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(data_root=data_root, split=split, lazy_init=True, **kwargs)
        name = f'{"Training" if split == "train" else "Testing"}_{partition:02d}.txt'
        self.ann_file = os.path.join(self.data_root, 'Partitions', name)
        if not lazy_init:
            self.full_init()
