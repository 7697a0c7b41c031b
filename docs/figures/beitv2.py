#!/usr/bin/env python
"""Draw BEiT v2: python docs/figures/beitv2.py [OUT.svg]."""

import sys
from pathlib import Path

import numpy as np
from diagrams import Diagram, landscape

OUT = Path(__file__).parents[2] / 'configs/beitv2/beitv2.svg'
GRID = 6
TOKEN, MASK, CLS = '#7fb2e5', '#7b4fa3', '#ffffff'
#: Masked blocks: upper row, left column, rows, columns.
BLOCKS = ((0, 2, 2, 3), (4, 0, 2, 3))


def draw() -> Diagram:
    """The diagram."""
    page = Diagram(800, 420)
    pixels, _ = landscape()
    hidden = np.zeros((GRID, GRID), dtype=int)
    for top, left, rows, columns in BLOCKS:
        hidden[top : top + rows, left : left + columns] = 1
    rows = [[(MASK if hidden[i, j] else TOKEN) for j in range(GRID)] for i in range(GRID)]

    # The encoder, and the prediction from its last block.
    masked = page.picture(14, 26, 96, pixels, hidden, MASK)
    page.text(14, 135, 'M masked, in blocks', align='left')
    tokens = page.tokens(146, 47, rows)
    cls = page.tokens(146, 34, [[CLS]])
    page.text(cls.right[0] + 6, cls.right[1], 'CLS', align='left')
    mask = page.tokens(168.5, 136, [[MASK]])
    page.text(184, 141, 'mask token', align='left')
    page.arrow(mask.top, tokens.bottom)
    early = page.box(232, 44, 92, 60, 'Encoder\nblocks 1 to 9', 'student')
    late = page.box(346, 44, 116, 60, 'Encoder\nblocks 10 to 12', 'student')
    page.arrow(masked.right, tokens.left)
    page.arrow(tokens.right, early.left)
    page.arrow(early.right, late.left)
    picked = page.tokens(492, 65, [[MASK] * 4, [MASK] * 4])
    page.text(510, 92, '[B, M, D]')
    linear = page.box(556, 44, 96, 60, 'Head\nnorm, linear;\nmasked only', 'student')
    page.arrow(late.right, picked.left)
    page.arrow(picked.right, linear.left)

    # The prediction from CLS of the last block and patches of an earlier one.
    more = page.box(346, 170, 116, 60, 'Extra blocks\ntwo, thrown away\nafterwards', 'student')
    page.arrow(early.bottom, (278, 200), more.left)
    page.text(270, 176, 'patches of block 9', align='right')
    page.arrow(late.bottom, more.top)
    page.text(412, 136, 'CLS of block 12', align='left')
    again = page.tokens(492, 191, [[MASK] * 4, [MASK] * 4])
    page.text(510, 218, '[B, M, D]')
    same = page.box(556, 170, 96, 60, 'Head\nthe same', 'student')
    page.arrow(more.right, again.left)
    page.arrow(again.right, same.left)
    loss = page.box(694, 40, 100, 194, 'Loss\nsum of two\ncross-entropies\nof M patches', 'loss')
    page.arrow(linear.right, (694, linear.right[1]))
    page.arrow(same.right, (694, same.right[1]))
    page.text(672, 62, 'logits')
    page.text(672, 188, 'logits')

    # The targets.
    image = page.picture(14, 248, 96, pixels, np.zeros((GRID, GRID), dtype=int), MASK)
    page.text(62, 357, 'image, N patches')
    page.arrow(image.top, (62, 143))
    page.text(72, 234, 'mask', align='left')
    tokenizer = page.box(
        300, 262, 196, 68, 'Tokenizer\ndistilled from CLIP: what the\npatch shows, one of K tokens', 'teacher'
    )
    page.arrow(image.right, tokenizer.left)
    page.arrow(tokenizer.right, (744, 296), loss.bottom)
    page.text(735, 284, 'targets [B, M]', align='right')

    page.legend(146, 377, {'student': 'trained by the loss', 'teacher': 'trained before, frozen', 'loss': 'loss'})
    page.text(14, 404, 'B images, N patches of each, M masked, D width of the encoder; logits [B, M, K]', align='left')
    return page


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
