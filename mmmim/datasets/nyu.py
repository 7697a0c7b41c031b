"""Images with a depth map, and perhaps a map of surface normals, beside each of them."""

from __future__ import annotations

import os
from typing import Any

from mmengine.dataset import BaseDataset

from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.names import printable

from .checked import Origin
from .image_folder import IMAGE_EXTENSIONS

#: Folders of the layout, below that of the data set, and what the config of a pipeline calls their files.
IMAGES, DEPTHS, NORMALS = 'images', 'annotations', 'normals'


@DATASETS.register_module()
class NYUv2(BaseDataset):
    """NYUv2 (Silberman et al. 2012) in the layout of mmsegmentation's data set of depths, or other images like it.

    Every file ``images/SPLIT/NAME.jpg`` (or other images, in any folders) has a depth map
    ``annotations/SPLIT/NAME.png``, and with ``normals=True`` also ``normals/SPLIT/NAME.png``. Files are found and
    compared here, and not read.

    Args:
        data_root: Folder of the data set.
        split: Folder of the images, 'train' or 'test'.
        normals: Whether there are files of normals.
        pipeline: Configs of transforms.
        indices: Number of images that are taken, the first ones by name, or their indices; None for all.
        test_mode: Whether the images are for a test.

    Raises:
        InputError: A folder or a map is missing, or an image has two files of a name.
    """

    origin = Origin(
        'NYUv2',
        f'{IMAGES}/train, {IMAGES}/test, {DEPTHS}/train and {DEPTHS}/test',
        'nyuv2-depth',
    )

    def __init__(
        self,
        data_root: str = 'data/nyu',
        split: str = 'train',
        normals: bool = False,
        pipeline: Any = (),
        indices: Any = None,
        test_mode: bool = False,
    ) -> None:
        self.split, self.normals = split, normals
        super().__init__(
            data_root=os.path.expanduser(data_root), pipeline=list(pipeline), indices=indices, test_mode=test_mode
        )

    def load_data_list(self) -> list[dict[str, Any]]:
        """Paths of images and maps, sorted.

        Raises:
            InputError: As the class says.
        """
        images = self._files(IMAGES, IMAGE_EXTENSIONS)
        maps = {'depth_map_path': self._files(DEPTHS, ('.png',))}
        if self.normals:
            maps['normal_map_path'] = self._files(NORMALS, ('.png',))
        for key, found in maps.items():
            if alone := sorted(images.keys() - found.keys()):
                kind = key.removesuffix('_path').replace('_', ' ')
                raise InputError(
                    f'{printable(self.data_root)}: image {printable(alone[0])} of split {self.split!r} has no {kind} '
                    f'({len(alone)} of {len(images)} have none): every image needs a file of the same name.'
                )
        return [
            {'img_path': path, **{key: found[name] for key, found in maps.items()}}
            for name, path in sorted(images.items())
        ]

    def _files(self, kind: str, extensions: tuple[str, ...]) -> dict[str, str]:
        """Paths by their names below the folder, without extensions."""
        root = os.path.join(self.data_root, kind, self.split)
        if not os.path.isdir(root):
            raise self.origin.missing(root, self.data_root)
        found: dict[str, str] = {}
        for folder, _, names in os.walk(root):
            for name in names:
                stem, extension = os.path.splitext(os.path.join(folder, name))
                if name.startswith('.') or extension.lower() not in extensions:
                    continue
                key = os.path.relpath(stem, root)
                if key in found:
                    raise InputError(
                        f'{printable(root)} has two files of {printable(key)}, {printable(name)} and '
                        f'{printable(os.path.basename(found[key]))}: leave one of them.'
                    )
                found[key] = os.path.join(folder, name)
        if not found:
            raise InputError(f'{printable(root)} has no files that end in {", ".join(extensions[:3])}.')
        return found
