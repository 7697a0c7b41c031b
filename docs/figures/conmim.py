#!/usr/bin/env python
"""Draw ConMIM: python docs/figures/conmim.py [OUT.svg]."""

import sys
from pathlib import Path

import numpy as np
from diagrams import COLOURS, Diagram, landscape

OUT = Path(__file__).parents[2] / 'configs/conmim/conmim.svg'
GRID = 6
TOKEN, MASK, CLS = '#7fb2e5', '#7b4fa3', '#ffffff'
#: Units of 2 x 2 patches that stay visible.
VISIBLE = ((0, 2), (2, 1))


def draw() -> Diagram:
    """The diagram."""
    page = Diagram(800, 420)
    grey = COLOURS['teacher'][1]
    pixels, _ = landscape()
    hidden = np.ones((GRID // 2, GRID // 2), dtype=int)
    for row, column in VISIBLE:
        hidden[row, column] = 0
    hidden = hidden.repeat(2, 0).repeat(2, 1)

    # Upper row: what the teacher makes of a second picture.
    other = pixels[..., ::-1] * 0.8
    image = page.picture(14, 50, 96, other, np.zeros((GRID, GRID), dtype=int), TOKEN)
    page.text(14, 36, 'the same crop, other colours', align='left')
    teacher = page.box(236, 68, 126, 60, 'Teacher\nwhole image\nno gradient', 'teacher')
    head = page.box(396, 68, 112, 60, 'Projector\nbatch norm', 'teacher')
    keys = page.tokens(546, 80, [[TOKEN] * 6, [TOKEN] * 6, [TOKEN] * 6, [TOKEN] * 6])
    page.text(573, 128, 'all N patches')
    page.arrow(image.right, teacher.left)
    page.arrow(teacher.right, head.left)
    page.arrow(head.right, keys.left)

    # Lower row: the student.
    rows = [[(MASK if hidden[i, j] else TOKEN) for j in range(GRID)] for i in range(GRID)]
    masked = page.picture(14, 242, 96, pixels, hidden, MASK)
    page.text(14, 351, 'M masked, in units', align='left')
    tokens = page.tokens(146, 263, rows)
    cls = page.tokens(146, 250, [[CLS]])
    page.text(cls.right[0] + 6, cls.right[1], 'CLS', align='left')
    mask = page.tokens(168.5, 346, [[MASK]])
    page.text(184, 351, 'one learned mask token', align='left')
    page.arrow(mask.top, tokens.bottom)
    student = page.box(236, 260, 126, 60, 'Encoder\nall patches, CLS;\nrelative positions', 'student')
    page.arrow(masked.right, tokens.left)
    page.arrow(tokens.right, student.left)
    projector = page.box(396, 260, 112, 60, 'Projector\nbatch norm', 'student')
    page.arrow(student.right, projector.left)
    picked = page.tokens(555, 281, [[MASK] * 4, [MASK] * 4])
    page.text(573, 308, '[B, M, Dp]')
    page.arrow(projector.right, picked.left)
    loss = page.box(654, 256, 132, 68, 'Loss\nwhich of the N is\neach of the M?', 'loss')
    page.arrow(picked.right, loss.left)
    page.arrow(keys.right, (720, keys.right[1]), loss.top)
    page.text(711, 186, 'candidates [B, N, Dp]', align='right')
    page.arrow(student.top, teacher.bottom, colour=grey, dashed=True)
    page.text(308, 190, 'EMA', align='left', colour=grey)
    page.arrow(projector.top, head.bottom, colour=grey, dashed=True)

    kinds = {'student': 'trained by the loss', 'teacher': 'moving average (EMA) of encoder and projector'}
    page.legend(14, 388, kinds | {'loss': 'loss'})
    page.text(14, 408, 'B images, N patches of each, M masked, Dp width of the projections', align='left')
    return page


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
