#!/usr/bin/env python
"""Draw data2vec: python docs/figures/data2vec.py [OUT.svg]."""

import sys
from pathlib import Path

import numpy as np
from diagrams import COLOURS, Diagram, landscape

OUT = Path(__file__).parents[2] / 'configs/data2vec/data2vec.svg'
GRID = 6
TOKEN, MASK, CLS = '#7fb2e5', '#7b4fa3', '#ffffff'
#: Masked blocks: upper row, left column, rows, columns.
BLOCKS = ((0, 1, 2, 3), (3, 0, 3, 2), (2, 3, 3, 3))


def draw() -> Diagram:
    """The diagram."""
    page = Diagram(800, 420)
    grey = COLOURS['teacher'][1]
    pixels, _ = landscape()
    hidden = np.zeros((GRID, GRID), dtype=int)
    for top, left, rows, columns in BLOCKS:
        hidden[top : top + rows, left : left + columns] = 1

    # Upper row: the targets.
    image = page.picture(14, 50, 96, pixels, np.zeros((GRID, GRID), dtype=int), TOKEN)
    page.text(62, 36, 'image, N patches')
    teacher = page.box(146, 68, 112, 60, 'Teacher\nwhole image\nno gradient', 'teacher')
    states = [page.tokens(294 + 12 * i, 62 + 6 * i, [[TOKEN] * 4] * 4) for i in range(3)]
    page.text(330, 144, 'last 6 blocks, [B, N, D] each')
    norms = page.box(414, 68, 112, 60, 'Layer norm\nof each block,\nno weights')
    mean = page.box(556, 68, 112, 60, 'Mean,\nlayer norm,\npick M patches')
    page.arrow(image.right, teacher.left)
    page.arrow(teacher.right, (states[0].left[0], 98))
    page.arrow((states[-1].right[0], 98), norms.left)
    page.arrow(norms.right, mean.left)

    # Lower row: the student.
    rows = [[(MASK if hidden[i, j] else TOKEN) for j in range(GRID)] for i in range(GRID)]
    masked = page.picture(14, 242, 96, pixels, hidden, MASK)
    page.text(14, 351, 'M masked, in blocks', align='left')
    tokens = page.tokens(146, 263, rows)
    cls = page.tokens(146, 250, [[CLS]])
    page.text(cls.right[0] + 6, cls.right[1], 'CLS', align='left')
    mask = page.tokens(168.5, 346, [[MASK]])
    page.text(184, 351, 'one learned mask token', align='left')
    page.arrow(mask.top, tokens.bottom)
    student = page.box(236, 260, 126, 60, 'Encoder\nall patches, CLS;\nrelative positions', 'student')
    page.arrow(masked.right, tokens.left)
    page.arrow(tokens.right, student.left)
    picked = page.tokens(396, 281, [[MASK] * 4, [MASK] * 4])
    page.text(414, 308, '[B, M, D]')
    page.arrow(student.right, picked.left)
    linear = page.box(472, 260, 84, 60, 'Linear\nmasked only', 'student')
    page.arrow(picked.right, linear.left)
    loss = page.box(654, 256, 132, 68, 'Loss\nsmooth L1\nof M patches', 'loss')
    page.arrow(linear.right, loss.left)
    page.text(605, 278, '[B, M, D]')
    page.arrow(mean.right, (720, mean.right[1]), loss.top)
    page.text(711, 200, 'targets [B, M, D]', align='right')
    page.arrow(student.top, (299, 190), (202, 190), teacher.bottom, colour=grey, dashed=True)
    page.text(211, 178, 'EMA', align='left', colour=grey)

    kinds = {'student': 'trained by the loss', 'teacher': 'moving average (EMA) of the encoder'}
    page.legend(14, 388, kinds | {'plain': 'no parameters', 'loss': 'loss'})
    page.text(14, 408, 'B images, N patches of each, M masked, D width of the encoder', align='left')
    return page


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
