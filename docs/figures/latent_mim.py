#!/usr/bin/env python
"""Draw Latent MIM: python docs/figures/latent_mim.py [OUT.svg]."""

import sys
from pathlib import Path

import numpy as np
from diagrams import COLOURS, Diagram, landscape

OUT = Path(__file__).parents[2] / 'configs/latent_mim/latent_mim.svg'
GRID = 6
TOKEN, QUERY = '#7fb2e5', '#7b4fa3'


def spaced(pixels: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The picture where patches lie apart, at random in their cells, and white elsewhere."""
    size = len(pixels)
    cell, patch = size // GRID, int(0.74 * size / GRID)
    rng = np.random.default_rng(5)
    picture = np.full_like(pixels, pixels.max())
    for row in range(GRID):
        for column in range(GRID):
            top, left = (cell * np.array([row, column]) + rng.integers(0, cell - patch + 1, 2)).tolist()
            if shown[row, column]:
                rows, columns = slice(top, top + patch), slice(left, left + patch)
                picture[rows, columns] = pixels[rows, columns]
    return picture


def draw() -> Diagram:
    """The diagram."""
    page = Diagram(800, 452)
    grey = COLOURS['teacher'][1]
    pixels, _ = landscape()
    visible = np.zeros(GRID * GRID, dtype=bool)
    visible[np.random.default_rng(3).permutation(GRID * GRID)[:5]] = True
    visible = visible.reshape(GRID, GRID)
    marks = np.zeros((GRID, GRID), dtype=int)

    # Upper row: the targets.
    hidden = page.picture(14, 50, 96, spaced(pixels, ~visible), marks, QUERY)
    page.text(62, 36, 'M target patches')
    target = page.box(138, 68, 118, 60, 'Target encoder\nprojector\nno gradient', 'teacher')
    latents = page.tokens(
        288, 71, [['#c9c9c9', '#b5b5b5', '#d9d9d9', '#c0c0c0', '#d0d0d0', '#bcbcbc'] for _ in range(6)]
    )
    page.text(315, 139, '[B, M, D]')
    page.arrow(hidden.right, target.left)
    page.arrow(target.right, latents.left)

    # Lower row: the student.
    seen = page.picture(14, 252, 96, spaced(pixels, visible), marks, QUERY)
    page.text(62, 361, 'V visible patches,')
    page.text(62, 376, 'not touching')
    student = page.box(138, 270, 118, 60, 'Online encoder\nprojector\nvisible only', 'student')
    context = page.tokens(291, 291, [['#ffffff', *[TOKEN] * 2], [TOKEN] * 3])
    page.text(305, 322, '[B, V + 1, D]')
    decoder = page.box(356, 270, 120, 60, 'Decoder\nself- and\ncross-attention', 'student')
    queries = page.tokens(402.5, 362, [[QUERY] * 3])
    page.text(416, 382, 'M mask tokens + positions')
    page.text(416, 396, '+ cues of what is near')
    predicted = page.tokens(512, 273, [[QUERY] * 6 for _ in range(6)])
    page.text(539, 341, '[B, M, D]')
    loss = page.box(624, 264, 166, 72, 'Patch discrimination\nwhich of the M targets\nis this prediction?', 'loss')
    constraint = page.box(356, 176, 120, 52, 'Similarity\nconstraint', 'loss')
    page.arrow(seen.right, student.left)
    page.arrow(student.right, context.left)
    page.arrow(context.right, decoder.left)
    page.arrow(queries.top, decoder.bottom)
    page.arrow(decoder.right, predicted.left)
    page.arrow(predicted.right, loss.left)
    page.arrow(latents.right, (707, latents.right[1]), loss.top)
    page.text(697, 118, 'targets', align='right')
    page.arrow(context.top, (context.top[0], 202), constraint.left)
    page.arrow(predicted.top, (predicted.top[0], 202), constraint.right)
    page.arrow(student.top, target.bottom, colour=grey, dashed=True)
    page.text(205, 200, 'EMA', align='left', colour=grey)

    page.legend(
        14,
        418,
        {'student': 'trained by the losses', 'teacher': 'moving average (EMA) of the student', 'loss': 'loss'},
    )
    page.text(14, 438, 'B images, V visible, M target patches, D width of the encoder', align='left')
    return page


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
