#!/usr/bin/env python
"""Draw I-JEPA: python docs/figures/ijepa.py [OUT.svg]."""

import sys
from pathlib import Path

import numpy as np
from diagrams import COLOURS, Diagram, landscape

OUT = Path(__file__).parents[2] / 'configs/ijepa/ijepa.svg'
GRID = 8
TOKEN = '#7fb2e5'
#: Target blocks: upper row, left column, rows, columns; and a colour of each.
BLOCKS = {'#7b4fa3': (1, 1, 3, 2), '#2a8f84': (3, 4, 3, 2), '#c2569b': (0, 5, 3, 2), '#b58a1b': (4, 1, 3, 2)}


def draw() -> Diagram:
    """The diagram."""
    page = Diagram(800, 452)
    grey = COLOURS['teacher'][1]
    pixels, _ = landscape()
    owner: dict[tuple[int, int], str] = {}
    for colour, (top, left, rows, columns) in BLOCKS.items():
        owner |= {(top + i, left + j): colour for i in range(rows) for j in range(columns)}
    # The context: a block of 7 x 7 without the targets.
    hidden = np.ones((GRID, GRID), dtype=int)
    hidden[:7, :7] = 0
    for place in owner:
        hidden[place] = 1

    # Upper row: the targets.
    image = page.picture(14, 50, 96, pixels, np.zeros((GRID, GRID), dtype=int), TOKEN)
    page.text(62, 36, 'image, N patches')
    target = page.box(146, 68, 118, 60, 'Target encoder\nwhole image\nno gradient', 'teacher')
    light = '#d9d9d9'
    latents = page.tokens(298, 62, [[owner.get((i, j), light) for j in range(GRID)] for i in range(GRID)])
    page.text(334, 144, '[B, N, D]')
    norm = page.box(410, 68, 130, 60, 'Layer norm\nno weights; then\npick T blocks')
    page.arrow(image.right, target.left)
    page.arrow(target.right, latents.left)
    page.arrow(latents.right, norm.left)

    # Lower row: the student.
    seen = page.picture(14, 252, 96, pixels, hidden, TOKEN)
    page.text(14, 361, 'context: a large block', align='left')
    page.text(14, 376, 'without the targets', align='left')
    student = page.box(146, 270, 118, 60, 'Encoder\ncontext only\nno CLS', 'student')
    context = page.tokens(297, 282, [[TOKEN] * 4] * 4)
    page.text(315, 329, '[B, V, D]')
    predictor = page.box(366, 270, 132, 60, 'Predictor\nself-attention,\none block at a time', 'student')
    colours = list(BLOCKS)
    queries = [page.tokens(382 + 27 * i, 358, [[colour] * 2] * 3) for i, colour in enumerate(colours)]
    page.text(432, 400, 'T times M mask tokens + positions')
    rows = [[colour for colour in pair for _ in range(2)] for pair in (colours[:2], colours[2:])]
    predicted = page.tokens(539, 273, [rows[0]] * 3 + [rows[1]] * 3)
    page.text(557, 341, '[B, T·M, D]')
    loss = page.box(648, 270, 138, 60, 'Loss\nsmooth L1, mean of\nblocks and channels', 'loss')
    page.arrow(seen.right, student.left)
    page.arrow(student.right, context.left)
    page.arrow(context.right, predictor.left)
    page.arrow((432, queries[0].y - 4), predictor.bottom)
    page.arrow(predictor.right, predicted.left)
    page.arrow(predicted.right, loss.left)
    page.arrow(norm.right, (717, norm.right[1]), loss.top)
    page.text(708, 116, '[B, T·M, D]', align='right')
    page.arrow(student.top, target.bottom, colour=grey, dashed=True)
    page.text(213, 200, 'EMA', align='left', colour=grey)

    kinds = {'student': 'trained by the loss', 'teacher': 'moving average (EMA) of the encoder'}
    page.legend(14, 420, kinds | {'plain': 'no parameters', 'loss': 'loss'})
    page.text(
        14,
        440,
        'B images, N patches of each, V of the context, T target blocks of M patches, D width of the encoder',
        align='left',
    )
    return page


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
