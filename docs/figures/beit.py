#!/usr/bin/env python
"""Draw BEiT: python docs/figures/beit.py [OUT.svg]."""

import sys
from pathlib import Path

import numpy as np
from diagrams import Diagram, landscape

OUT = Path(__file__).parents[2] / 'configs/beit/beit.svg'
GRID = 6
TOKEN, MASK, CLS = '#7fb2e5', '#7b4fa3', '#ffffff'


def draw_fused(
    target: str, kind: str, outputs: str, targets: str, loss: str, legend: dict[str, str], unit: int = 1
) -> Diagram:
    """An encoder that sees mask tokens in the place of hidden patches.

    Args:
        target: Lines of the box that makes targets.
        kind: Of this box.
        outputs: Shape of predictions.
        targets: Shape of targets.
        loss: Lines of the loss.
        legend: Kinds of boxes and what they mean.
        unit: Side in patches of what is masked.
    """
    page = Diagram(800, 330)
    pixels, _ = landscape()
    side = GRID // unit
    visible = np.zeros(side * side, dtype=bool)
    visible[np.random.default_rng(3).permutation(side * side)[: 21 // unit**2 or 1]] = True
    visible = visible.reshape(side, side).repeat(unit, 0).repeat(unit, 1)
    rows = [[(TOKEN if visible[i, j] else MASK) for j in range(GRID)] for i in range(GRID)]

    masked = page.picture(14, 26, 96, pixels, np.where(visible, 0, 1), MASK)
    page.text(62, 135, 'V visible, M masked')
    tokens = page.tokens(146, 47, rows)
    cls = page.tokens(146, 34, [[CLS]])
    page.text(cls.right[0] + 6, cls.right[1], 'CLS', align='left')
    mask = page.tokens(168.5, 136, [[MASK]])
    page.text(184, 141, 'one learned mask token', align='left')
    page.arrow(mask.top, tokens.bottom)
    encoder = page.box(240, 44, 112, 60, 'Encoder\nall patches\nand CLS', 'student')
    page.arrow(masked.right, tokens.left)
    page.arrow(tokens.right, encoder.left)
    picked = page.tokens(392, 65, [[MASK] * 4, [MASK] * 4])
    page.text(410, 92, '[B, M, D]')
    page.arrow(encoder.right, picked.left)
    linear = page.box(468, 44, 84, 60, 'Linear\nmasked only', 'student')
    page.arrow(picked.right, linear.left)
    end = page.box(654, 40, 132, 68, loss, 'loss')
    page.arrow(linear.right, end.left)
    page.text(603, 62, 'predictions')
    page.text(603, 88, outputs)

    image = page.picture(14, 172, 96, pixels, np.zeros((GRID, GRID), dtype=int), MASK)
    page.text(62, 281, 'image, N patches')
    page.arrow(image.top, (62, 145))
    page.text(72, 158, 'mask', align='left')
    maker = page.box(420, 186, 160, 68, target, kind)
    page.arrow(image.right, maker.left)
    page.arrow(maker.right, (720, 220), end.bottom)
    page.text(711, 208, f'targets {targets}', align='right')

    page.legend(146, 289, legend)
    page.text(14, 313, 'B images, N patches of p x p pixels, V visible, M masked, D width of the encoder', align='left')
    return page


def draw() -> Diagram:
    """The diagram."""
    return draw_fused(
        'Tokenizer\nwhat the patch shows,\none of K tokens',
        'teacher',
        '[B, M, K] logits',
        '[B, M]',
        'Loss\ncross-entropy\nof M patches',
        {'student': 'trained by the loss', 'teacher': 'trained before, frozen', 'loss': 'loss'},
    )


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
