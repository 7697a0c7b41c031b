#!/usr/bin/env python
"""Draw CAPI: python docs/figures/capi.py [OUT.svg]."""

import sys
from pathlib import Path

import numpy as np
from diagrams import COLOURS, Diagram, landscape, patch_regions

OUT = Path(__file__).parents[2] / 'configs/capi/capi.svg'
CLUSTERS = ['#8dd3c7', '#ffed6f', '#bebada', '#b3de69', '#fb8072']
GRID = 6
PREDICTED = '#7b4fa3'


def draw() -> Diagram:
    """The diagram."""
    page = Diagram(800, 452)
    teacher = COLOURS['teacher'][1]
    pixels, regions = landscape()
    clusters = [[CLUSTERS[region] for region in row] for row in patch_regions(regions, GRID)]
    # A third of the patches is visible: a block, rolled over two edges.
    visible = np.zeros((GRID, GRID), dtype=bool)
    visible[:3, :4] = True
    visible = np.roll(visible, (-1, 4), axis=(0, 1))
    marks = np.where(visible, 0, 1)
    predicted = [(2, 2), (3, 4), (4, 1)]
    for place in predicted:
        marks[place] = 2

    # Upper row: the teacher and the clustering.
    image = page.picture(14, 84, 96, pixels, np.zeros((GRID, GRID), dtype=int), PREDICTED)
    page.text(62, 70, 'image, N patches')
    encoder = page.box(142, 102, 96, 60, 'Teacher\nencoder\nno gradient', 'teacher')
    tokens = page.tokens(266, 105, [[teacher_token(i, j) for j in range(GRID)] for i in range(GRID)])
    page.text(293, 173, '[B, N, D]')
    prototypes = page.box(346, 102, 100, 60, 'Clustering\nlinear layer,\nK prototypes', 'target')
    sinkhorn = page.box(480, 102, 124, 60, 'Sinkhorn-Knopp\nat every position,\nover B images')
    assigned = page.tokens(634, 105, clusters)
    page.text(661, 173, '[B, N, K]')
    own_loss = page.box(472, 18, 140, 42, 'Clustering loss\ncross-entropy', 'loss')
    page.arrow(image.right, encoder.left)
    page.arrow(encoder.right, tokens.left)
    page.arrow(tokens.right, prototypes.left)
    page.arrow(prototypes.right, sinkhorn.left)
    page.arrow(sinkhorn.right, assigned.left)
    page.arrow(prototypes.top, (prototypes.top[0], 39), own_loss.left)
    page.text(388, 39, 'logits', align='right')
    page.arrow(sinkhorn.top, own_loss.bottom)
    page.text(552, 82, 'assignments', align='left')

    # Lower row: the student.
    masked = page.picture(14, 252, 96, pixels, marks, PREDICTED)
    page.text(62, 361, 'V visible,')
    page.text(62, 376, 'M predicted')
    student_box = page.box(142, 270, 96, 60, 'Student\nencoder\nvisible only', 'student')
    registers = page.tokens(163, 356, [['#ffffff'] * 6])
    page.text(190, 377, 'E registers')
    shown = [[('#7fb2e5' if visible[i, j] else None) for j in range(GRID)] for i in range(GRID)]
    rows = [row for row in ([c for c in row if c] for row in shown) if row]
    flat = [colour for row in rows for colour in row] + ['#ffffff'] * 6
    context = page.tokens(275, 273, [flat[i : i + 3] for i in range(0, len(flat), 3)])
    page.text(289, 343, '[B, V + E, D]')
    predictor = page.box(346, 270, 100, 60, 'Predictor\ncross-attention\nto the student', 'student')
    queries = page.tokens(382.5, 356, [[PREDICTED] * 3])
    page.text(396, 377, 'M mask tokens')
    head = page.box(480, 270, 124, 60, 'Prototype head\nnormalise, linear,\nK logits', 'student')
    main_loss = page.box(664, 270, 122, 60, 'Loss\ncross-entropy of\nM predictions', 'loss')
    page.arrow(image.bottom, masked.top)
    page.text(70, 216, 'mask', align='left')
    page.text(70, 231, 'block, rolled', align='left')
    page.arrow(masked.right, student_box.left)
    page.arrow(registers.top, student_box.bottom)
    page.arrow(student_box.right, context.left)
    page.arrow(context.right, predictor.left)
    page.arrow(queries.top, predictor.bottom)
    page.arrow(predictor.right, head.left)
    page.arrow(head.right, main_loss.left)
    page.text(463, 343, '[B, M, Dp]')
    page.text(634, 343, '[B, M, K]')
    targets = page.tokens(720.5, 196, [[clusters[i][j]] for i, j in predicted])
    page.arrow(assigned.right, (725, assigned.right[1]), targets.top)
    page.arrow(targets.bottom, main_loss.top)
    page.text(710, 203, 'targets: assignments of', align='right')
    page.text(710, 218, 'M predicted patches, [B, M, K]', align='right')
    page.arrow(student_box.top, encoder.bottom, colour=teacher, dashed=True)
    page.text(198, 216, 'EMA', align='left', colour=teacher)

    page.legend(
        14,
        410,
        {
            'student': 'trained by the loss',
            'target': 'trained by the clustering loss',
            'teacher': 'moving average (EMA) of the student',
            'loss': 'loss',
        },
    )
    page.text(
        14,
        434,
        'B images, N patches, V visible, M predicted, E registers, K prototypes, '
        'D width of the encoder, Dp of the predictor',
        align='left',
    )
    return page


def teacher_token(row: int, column: int) -> str:
    """Shades, since the tokens of an encoder differ."""
    return ['#c9c9c9', '#b5b5b5', '#d9d9d9'][(2 * row + column) % 3]


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
