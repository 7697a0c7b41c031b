"""Draws fashion_scenes.png: images of both subsets of FashionScenes, and their label maps."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from mmmim.datasets.fashion_scenes_generator import CLASSES, generate
from mmmim.datasets.scenes_generator import BACKGROUND_LABEL, SUBSETS

PALETTE = np.concatenate([[[0, 0, 0], [40, 40, 40]], np.array(plt.get_cmap('tab10').colors) * 255]).astype(np.uint8)


def main() -> None:
    """Draw."""
    figure, axes = plt.subplots(4, 12, figsize=(12, 4.4))
    for row, subset in enumerate(SUBSETS):
        scenes = generate(subset, 'val')
        for column, number in enumerate(np.random.RandomState(0).permutation(len(scenes.images))[:12]):
            for below, picture in enumerate((scenes.images[number], PALETTE[scenes.label_maps[number]])):
                axes[2 * row + below, column].imshow(picture)
    for axis in axes.flat:
        axis.axis('off')
    colours = [plt.Rectangle((0, 0), 1, 1, color=PALETTE[BACKGROUND_LABEL + 1 + i] / 255) for i in range(len(CLASSES))]
    figure.legend(colours, CLASSES, ncol=len(CLASSES), loc='lower center', fontsize=8, frameon=False)
    figure.subplots_adjust(0, 0.07, 1, 1, 0.03, 0.03)
    figure.savefig(Path(__file__).with_suffix('.png'), dpi=80)


if __name__ == '__main__':
    main()
