"""What data sets of images with boxes share."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset

from mmmim.datasets.checked import Checked
from mmmim.utils import InputError
from mmmim.utils.names import printable

Box = tuple[float, float, float, float]


class ImagesWithBoxes(Checked):
    """Images, ``img_path``, each with its boxes ``(x0, y0, x1, y1)`` in pixels, ``gt_bboxes``.

    Images without a box cannot be scored and are left out; the log says how many.
    """

    data_list: list[dict]

    def filter_data(self) -> list[dict]:
        """Refuse paths that leave the folder of the images; leave out images without a box."""
        name, folder = self.origin.name, self.data_prefix.get('img_path') or self.data_root
        for info in self.data_list:
            self.check_inside(info['img_path'], folder)
        kept = [info for info in self.data_list if info['gt_bboxes']]
        if not kept:
            raise InputError(f'The lists of {name} in {printable(self.data_root)} name no image with a box.')
        if left_out := len(self.data_list) - len(kept):
            print_log(f'{left_out} of {len(self.data_list)} images of {name} have no box and are left out.', 'current')
        self.data_list = kept
        if not os.path.exists(kept[0]['img_path']):
            raise self.origin.missing(kept[0]['img_path'], self.data_root)
        return BaseDataset.filter_data(self)


def check_box(values: Sequence[float], source: str) -> Box:
    """A box of a file: four finite numbers, of which the second two are not smaller.

    Args:
        values: ``x0, y0, x1, y1``.
        source: What messages call the file.

    Raises:
        InputError: They are something else.
    """
    x0, y0, x1, y1 = values
    if not all(map(math.isfinite, values)) or x1 < x0 or y1 < y0:
        raise InputError(f'{printable(source)} has a box from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}): get it anew.')
    return x0, y0, x1, y1
