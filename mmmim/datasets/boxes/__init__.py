"""Images with boxes around their objects, for scores of object discovery."""

from .coco import COCOBoxes
from .label_map_boxes import BoxesOfLabelMap
from .voc import VOCBoxes

__all__ = ['BoxesOfLabelMap', 'COCOBoxes', 'VOCBoxes']
