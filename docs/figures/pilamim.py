#!/usr/bin/env python
"""Draw PiLaMIM: python docs/figures/pilamim.py [OUT.svg]."""

import sys
from pathlib import Path

import numpy as np
from diagrams import COLOURS, Diagram, landscape

OUT = Path(__file__).parents[2] / 'configs/pilamim/pilamim.svg'
GRID = 6
TOKEN, PIXEL_MASK, LATENT_MASK, CLS = '#7fb2e5', '#c98a2b', '#7b4fa3', '#ffffff'


def draw() -> Diagram:
    """The diagram."""
    page = Diagram(800, 500)
    grey = COLOURS['teacher'][1]
    pixels, _ = landscape()
    visible = np.zeros(GRID * GRID, dtype=bool)
    visible[np.random.default_rng(3).permutation(GRID * GRID)[:9]] = True
    visible = visible.reshape(GRID, GRID)
    nothing_hidden = np.zeros((GRID, GRID), dtype=int)

    # The student: one encoder, two decoders.
    masked = page.picture(14, 152, 96, pixels, np.where(visible, 0, 1), LATENT_MASK)
    page.text(62, 262, 'V visible, M masked')
    encoder = page.box(132, 170, 130, 60, 'Context encoder\nvisible only\nand CLS', 'student')
    context = page.tokens(283, 191, [[CLS, *[TOKEN] * 4], [TOKEN] * 5])
    page.text(305, 222, '[B, V + 1, D]')
    page.arrow(masked.right, encoder.left)
    page.arrow(encoder.right, context.left)

    def decoder(y: float, name: str, mask: str) -> tuple[tuple[float, float], tuple[float, float]]:
        box = page.box(368, y, 120, 60, f'{name} decoder\nself-attention\nof all tokens', 'student')
        page.arrow(context.right, (346, context.right[1]), (346, box.left[1]), box.left)
        queries = page.tokens(414.5, y + 84, [[mask] * 3])
        page.text(428, y + 105, 'M mask tokens')
        page.arrow(queries.top, box.bottom)
        rows = [[(TOKEN if visible[i, j] else mask) for j in range(GRID)] for i in range(GRID)]
        decoded = page.tokens(512, y + 3, rows)
        page.arrow(box.right, decoded.left)
        return decoded.right, decoded.top

    out, _ = decoder(36, 'Pixel', PIXEL_MASK)
    loss = page.box(656, 32, 132, 68, 'Pixel loss\nmean square error\nof M patches', 'loss')
    page.arrow(out, loss.left)
    page.text(611, 54, 'pixels of M')
    page.text(611, 80, '[B, M, p·p·3]')
    small = page.picture(690, 134, 64, pixels, nothing_hidden, PIXEL_MASK)
    page.arrow(small.top, loss.bottom)
    page.text(722, 210, 'pixels as they are')

    out, top = decoder(262, 'Latent', LATENT_MASK)
    cls = page.tokens(top[0] - 4.5, top[1] - 20, [[CLS]])
    page.text(cls.right[0] + 8, cls.right[1], 'CLS', align='left')
    latent = page.box(656, 258, 132, 68, 'Latent losses\nmean square error,\nM patches and CLS', 'loss')
    page.arrow(out, latent.left)
    page.text(611, 280, 'latents, CLS')
    page.text(611, 306, '[B, M + 1, D]')

    # The teacher.
    image = page.picture(14, 352, 96, pixels, nothing_hidden, LATENT_MASK)
    page.text(62, 341, 'image, N patches')
    teacher = page.box(132, 370, 130, 60, 'Target encoder\nall patches, CLS\nno gradient', 'teacher')
    greys = ['#c9c9c9', '#b5b5b5', '#d9d9d9', '#c0c0c0', '#d0d0d0', '#bcbcbc']
    targets = page.tokens(283, 364, [[CLS, *[None] * 5], *[greys] * GRID])
    page.text(310, 440, '[B, N + 1, D]')
    page.arrow(image.right, teacher.left)
    page.arrow(teacher.right, (targets.left[0], teacher.right[1]))
    page.arrow((targets.right[0], 400), (722, 400), latent.bottom)
    page.text(712, 414, 'targets: latents of the same patches, and CLS', align='right')
    page.arrow(encoder.bottom, teacher.top, colour=grey, dashed=True)
    page.text(207, 300, 'EMA', align='left', colour=grey)

    page.legend(
        14,
        464,
        {
            'student': 'trained by the sum of the losses',
            'teacher': 'moving average (EMA)',
            'loss': 'loss',
        },
    )
    page.text(14, 486, 'B images, N patches of p x p pixels, V visible, M masked, D width of the encoder', align='left')
    return page


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
