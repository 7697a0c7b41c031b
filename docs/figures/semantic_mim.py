#!/usr/bin/env python
"""Draw SemanticMIM: python docs/figures/semantic_mim.py [OUT.svg]."""

import sys
from pathlib import Path

import numpy as np
from diagrams import Diagram, landscape

OUT = Path(__file__).parents[2] / 'configs/semantic_mim/semantic_mim.svg'
GRID = 6
TOKEN, MASK, PROXY = '#7fb2e5', '#7b4fa3', '#e8b23a'


def draw() -> Diagram:
    """The diagram."""
    page = Diagram(800, 452)
    pixels, _ = landscape()
    visible = np.zeros(GRID * GRID, dtype=bool)
    visible[np.random.default_rng(3).permutation(GRID * GRID)[:14]] = True
    visible = visible.reshape(GRID, GRID)
    columns = (178, 306, 446)

    def chain(y: float, names: list[str], start: tuple[float, float]) -> list:
        boxes = [page.box(x, y, 100, 60, name, 'student') for x, name in zip(columns, names, strict=True)]
        page.arrow(start, boxes[0].left)
        page.arrow(boxes[0].right, boxes[1].left)
        page.text(426, boxes[1].right[1], '...')
        return boxes

    # Compression: the encoder.
    masked = page.picture(14, 44, 96, pixels, np.where(visible, 0, 1), MASK)
    page.text(62, 157, 'V visible, M masked')
    page.text(14, 20, 'Compression: the encoder, which is kept', align='left')
    seen = page.tokens(130.5, 69.5, [[PROXY] * 3, [TOKEN] * 3, [TOKEN] * 3, [TOKEN] * 3, [TOKEN] * 3])
    page.text(162, 137, '[B, L + V, D]')
    page.arrow(masked.right, seen.left)
    encoder = chain(62, [f'Block {i}\nself-attention' for i in (1, 2, 12)], seen.right)
    features = page.tokens(576, 69.5, [[PROXY] * 3, [TOKEN] * 3, [TOKEN] * 3, [TOKEN] * 3, [TOKEN] * 3])
    page.arrow(encoder[-1].right, features.left)
    page.text(612, 84, 'L proxies', align='left')
    page.text(612, 100, 'V visible patches', align='left')

    # Reconstruction: the blocks beside it.
    page.text(14, 300, 'Reconstruction: blocks beside the encoder, discarded after pre-training', align='left')
    queries = page.tokens(130.5, 238, [[MASK] * 3, [MASK] * 3])
    page.text(80, 240, 'M mask tokens')
    page.text(80, 254, '+ positions')
    cross = chain(217, [f"Block {i}'\ncross- and\nself-attention" for i in (1, 2, 12)], queries.right)
    for upper, lower in zip(encoder, cross, strict=True):
        page.arrow(upper.bottom, lower.top)
        proxies = page.tokens(upper.bottom[0] - 34, 162, [[PROXY] * 3])
        page.text(upper.bottom[0] + 8, proxies.right[1], 'proxies', align='left')
    linear = page.box(570, 217, 60, 60, 'Norm\nlinear', 'student')
    page.arrow(cross[-1].right, linear.left)
    loss = page.box(654, 213, 134, 68, 'Loss\nof M mask tokens,\nof nothing else', 'loss')
    page.arrow(linear.right, loss.left)

    # Targets.
    image = page.picture(14, 338, 72, pixels, np.zeros((GRID, GRID), dtype=int), MASK)
    maker = page.box(446, 344, 184, 60, 'Targets\nBEiT: tokens\nMaskFeat: HOG', 'teacher')
    page.arrow(image.right, maker.left)
    page.arrow(maker.right, (721, maker.right[1]), loss.bottom)
    page.text(711, 358, 'targets', align='right')

    page.legend(110, 420, {'student': 'trained by the loss', 'teacher': 'not trained', 'loss': 'loss'})
    page.text(14, 440, 'B images, L proxies, V visible patches, M masked, D width of the encoder', align='left')
    return page


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
