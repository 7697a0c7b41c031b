"""A few images of each class."""

import random
from collections.abc import Iterable


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
