"""A second picture of the same crop."""

from collections.abc import Sequence
from typing import Any

from mmcv.transforms import BaseTransform

from mmmim.registry import TRANSFORMS
from mmmim.utils import InputError


@TRANSFORMS.register_module()
class SecondView(BaseTransform):
    """Keeps the picture, and adds another of the same crop with other colours, for the teacher (ConMIM).

    The encoder sees the first, the teacher the second (arXiv 2205.09616). It has to come after crops and flips, since
    patches of the two must show the same places, and right before ``mmpretrain.PackInputs``.

    Required Keys:

    - img

    Modified Keys:

    - img: A list of both pictures.

    Args:
        transforms: Configs of what makes the second picture of the first; none may move what is seen.
    """

    def __init__(self, transforms: Sequence[dict]) -> None:
        self.transforms = [TRANSFORMS.build(transform) for transform in transforms]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the second picture.

        Raises:
            InputError: There are two pictures already, or the transforms change the size of the picture.
        """
        first = results['img']
        if isinstance(first, list):
            raise InputError('mmmim.SecondView stands twice in a pipeline: one second picture is all that is used.')
        other: Any = {**results, 'img': first.copy()}
        for transform in self.transforms:
            other = transform(other)
        if other['img'].shape != first.shape:
            raise InputError(
                f'mmmim.SecondView.transforms make {other["img"].shape} of a picture of {first.shape} (height, width, '
                'channels): leave crops and resizes to the transforms before it.'
            )
        return {**results, 'img': [first, other['img']]}
