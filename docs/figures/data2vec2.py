#!/usr/bin/env python
"""Draw data2vec 2.0: python docs/figures/data2vec2.py [OUT.svg]."""

import sys
from pathlib import Path

import numpy as np
from diagrams import COLOURS, Diagram, landscape

OUT = Path(__file__).parents[2] / 'configs/data2vec2/data2vec2.svg'
GRID = 6
TOKEN, NOISE, MASK, CLS = '#7fb2e5', '#d9d9d9', '#7b4fa3', '#ffffff'
#: Visible blocks of three masks: upper row, left column.
MASKS = ((0, 3), (3, 0), (2, 2))


def draw() -> Diagram:
    """The diagram."""
    page = Diagram(800, 430)
    grey = COLOURS['teacher'][1]
    pixels, _ = landscape()

    # Upper row: the targets.
    image = page.picture(14, 50, 96, pixels, np.zeros((GRID, GRID), dtype=int), TOKEN)
    page.text(14, 36, 'image, N patches', align='left')
    teacher = page.box(146, 68, 122, 60, 'Teacher\nwhole image, once\nno gradient', 'teacher')
    states = [page.tokens(294 + 12 * i, 62 + 6 * i, [[TOKEN] * 4] * 4) for i in range(3)]
    page.text(330, 144, 'MLPs of 10 blocks, [B, N, D]')
    norms = page.box(408, 68, 122, 60, 'Instance norm\nof each block,\nno weights')
    mean = page.box(556, 68, 112, 60, 'Mean,\nlayer norm,\npick M patches')
    page.arrow(image.right, teacher.left)
    page.arrow(teacher.right, (states[0].left[0], 98))
    page.arrow((states[-1].right[0], 98), norms.left)
    page.arrow(norms.right, mean.left)

    # Lower row: the student, once for every mask.
    for i, (top, left) in enumerate(MASKS):
        hidden = np.ones((GRID, GRID), dtype=int)
        hidden[top : top + 3, left : left + 3] = 0
        masked = page.picture(14 + 10 * i, 236 + 10 * i, 80, pixels, hidden, MASK)
    page.text(14, 354, 'C masks of an image', align='left')
    tokens = page.tokens(146, 281, [[TOKEN] * 3] * 3)
    cls = page.tokens(146, 268, [[CLS]])
    page.text(cls.right[0] + 6, cls.right[1], 'CLS', align='left')
    student = page.box(208, 264, 118, 60, 'Encoder\nvisible patches\nand CLS', 'student')
    page.arrow((masked.right[0], 294), tokens.left)
    page.arrow((tokens.right[0], 294), student.left)
    page.text(159, 325, '[B·C, V, D]')
    top, left = MASKS[-1]
    rows = [[TOKEN if top <= i < top + 3 and left <= j < left + 3 else NOISE for j in range(GRID)] for i in range(GRID)]
    grid = page.tokens(362, 267, rows)
    page.text(389, 338, 'noise elsewhere')
    decoder = page.box(462, 264, 104, 60, 'Decoder\nconvolutions,\nlinear', 'student')
    page.arrow(student.right, grid.left)
    page.arrow(grid.right, decoder.left)
    loss = page.box(650, 260, 136, 68, 'Loss\nsquared error\nof M patches', 'loss')
    page.arrow(decoder.right, loss.left)
    page.text(608, 280, '[B·C, M, D]')
    page.arrow(mean.right, (718, mean.right[1]), loss.top)
    page.text(709, 200, 'targets [B·C, M, D]', align='right')
    end = page.box(650, 350, 136, 52, 'Loss of CLS\nmean of all targets', 'loss')
    page.arrow(student.bottom, (267, 376), end.left)
    page.text(458, 364, 'CLS, [B·C, D]')
    page.arrow(student.top, (267, 190), (207, 190), teacher.bottom, colour=grey, dashed=True)
    page.text(216, 178, 'EMA', align='left', colour=grey)

    kinds = {'student': 'trained by the loss', 'teacher': 'moving average (EMA)'}
    page.legend(14, 398, kinds | {'plain': 'no parameters', 'loss': 'loss'})
    page.text(
        14, 418, 'B images, N patches, C masks of each, V visible, M masked, D width of the encoder', align='left'
    )
    return page


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
