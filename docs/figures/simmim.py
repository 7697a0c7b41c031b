#!/usr/bin/env python
"""Draw SimMIM: python docs/figures/simmim.py [OUT.svg]."""

import sys
from pathlib import Path
from runpy import run_path

from diagrams import Diagram

OUT = Path(__file__).parents[2] / 'configs/simmim/simmim.svg'


def draw() -> Diagram:
    """The diagram: BEiT's, with other masks and targets."""
    draw_fused = run_path(str(Path(__file__).with_name('beit.py')))['draw_fused']
    return draw_fused(
        'Targets\npixels of a patch,\nas they are',
        'plain',
        '[B, M, p·p·3]',
        '[B, M, p·p·3]',
        'Loss\nmean absolute error\nof M patches',
        {'student': 'trained by the loss', 'plain': 'no parameters', 'loss': 'loss'},
        unit=2,
    )


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
