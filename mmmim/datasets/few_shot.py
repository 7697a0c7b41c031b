"""A few images of each class."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from typing import Any

from mmengine.dataset import BaseDataset

from mmmim.registry import DATASETS
from mmmim.utils import InputError
from mmmim.utils.options import Count, Seed, check_value


def few_shot(labels: Iterable[int], shots: int, seed: int, repeat: bool = False) -> list[int]:
    """Choose samples of each class, as few-shot transfer does (CoOp, arXiv 2109.01134; Latent MIM, arXiv 2407.15837).

    Classes are taken in the order in which they first appear, and from each ``random.sample`` draws.

    Args:
        labels: Classes of the samples.
        shots: Samples per class.
        seed: Seed of Python's generator.
        repeat: Whether a class with fewer samples is drawn from with replacement; it is taken whole otherwise.

    Returns:
        Indices, class by class.
    """
    generator = random.Random(seed)
    classes: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        classes.setdefault(label, []).append(index)
    chosen: list[int] = []
    for items in classes.values():
        if len(items) >= shots:
            chosen += generator.sample(items, shots)
        else:
            chosen += generator.choices(items, k=shots) if repeat else items
    return chosen


@DATASETS.register_module(name='FewShot')
def few_shot_dataset(dataset: dict[str, Any] | BaseDataset, shots: Count, seed: Seed = 1) -> BaseDataset:
    """A few images of each class of a data set: ``dict(type='mmmim.FewShot', dataset=..., shots=16, seed=1)``.

    A class with fewer images is taken whole. The images come class by class.

    Args:
        dataset: Any data set whose images have a class, or its config.
        shots: Images per class.
        seed: Seed of the choice.

    Returns:
        A copy of the data set with these images.

    Raises:
        InputError: An image has no class, or several; or no class has so many images.
    """
    check_value('FewShot.shots', shots, Count)
    check_value('FewShot.seed', seed, Seed)
    whole = dataset if isinstance(dataset, BaseDataset) else DATASETS.build(dataset)
    whole.full_init()
    labels = [whole.get_data_info(i).get('gt_label') for i in range(len(whole))]
    if odd := [label for label in labels if not isinstance(label, int)]:
        raise InputError(
            f'mmmim.FewShot chooses images by their class, and an image of {type(whole).__name__} has {odd[0]!r}: give '
            'it a data set with one class per image (with_label=True of mmmim.ImageFolder).'
        )
    most = max(Counter(labels).values(), default=0)
    if shots > most:
        raise InputError(
            f'mmmim.FewShot: shots={shots}, and no class of {type(whole).__name__} has more than {most} images, so all '
            f'would be taken: give up to {most} shots.'
        )
    return whole.get_subset(few_shot(labels, shots, seed))
