#!/usr/bin/env python
"""Draw MAE: python docs/figures/mae.py [OUT.svg]."""

import sys
from pathlib import Path

import numpy as np
from diagrams import Diagram, landscape

OUT = Path(__file__).parents[2] / 'configs/mae/mae.svg'
GRID = 6
MASK, TOKEN = '#7b4fa3', '#7fb2e5'


def draw_mae(
    decoder: str = 'Decoder\nself-attention\nof all tokens',
    alone: bool = False,
    between: str | None = None,
    filtered: str | None = None,
) -> Diagram:
    """An encoder of the visible patches, a decoder, and pixels as targets.

    Args:
        decoder: Lines of the box of the decoder.
        alone: Whether it gives nothing but the predicted patches.
        between: Lines of a box between encoder and decoder, in the place of the encoder's tokens.
        filtered: Lines of a box between the image and its targets.
    """
    page = Diagram(800, 330)
    pixels, _ = landscape()
    visible = np.zeros(GRID * GRID, dtype=bool)
    visible[np.random.default_rng(3).permutation(GRID * GRID)[:9]] = True
    visible = visible.reshape(GRID, GRID)
    nothing_hidden = np.zeros((GRID, GRID), dtype=int)

    masked = page.picture(14, 26, 96, pixels, np.where(visible, 0, 1), MASK)
    page.text(62, 135, 'V visible, M masked')
    encoder = page.box(146, 44, 96, 60, 'Encoder\nvisible only\nand CLS', 'student')
    if between is None:
        context = page.tokens(276.5, 65, [['#ffffff', *[TOKEN] * 4], [TOKEN] * 5])
        page.text(299, 92, '[B, V + 1, D]')
    else:
        context = page.box(260, 44, 78, 60, between, 'student')
        page.text(299, 116, '[B, V + 1, D]')
    reader = page.box(352, 44, 106, 60, decoder, 'student')
    queries = page.tokens(391.5, 136, [[MASK] * 3])
    page.text(405, 157, 'M mask tokens')
    rows = [[(TOKEN if visible[i, j] else MASK) for j in range(GRID)] for i in range(GRID)]
    if alone:
        decoded = page.tokens(503.5, 65, [[MASK] * 4, [MASK] * 4])
        page.text(521, 96, '[B, M, Dp]')
    else:
        decoded = page.tokens(494, 47, rows)
        page.text(521, 114, '[B, N, Dp]')
    loss = page.box(664, 44, 122, 60, 'Loss\nmean square error\nof M patches', 'loss')
    page.arrow(masked.right, encoder.left)
    page.arrow(encoder.right, context.left)
    page.arrow(context.right, reader.left)
    page.arrow(queries.top, reader.bottom)
    page.arrow(reader.right, decoded.left)
    page.arrow(decoded.right, loss.left)
    page.text(606, 62, 'pixels of M')
    page.text(606, 88, '[B, M, p·p·3]')

    image = page.picture(14, 172, 96, pixels, nothing_hidden, MASK)
    page.text(62, 281, 'image, N patches')
    normalise = page.box(480, 190, 144, 60, 'Targets\npixels of a patch,\nnormalised per patch')
    page.arrow(image.top, (62, 145))
    page.text(72, 158, 'mask, uniform', align='left')
    if filtered is None:
        page.arrow(image.right, normalise.left)
    else:
        kept = page.box(240, 190, 144, 60, filtered)
        page.arrow(image.right, kept.left)
        page.arrow(kept.right, normalise.left)
    page.arrow(normalise.right, (725, 220), loss.bottom)
    page.text(716, 238, '[B, M, p·p·3]', align='right')

    page.legend(146, 289, {'student': 'trained by the loss', 'plain': 'no parameters', 'loss': 'loss'})
    page.text(
        14,
        313,
        'B images, N patches of p x p pixels, V visible, M masked, D width of the encoder, Dp of the decoder',
        align='left',
    )
    return page


def draw() -> Diagram:
    """The diagram."""
    return draw_mae()


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
