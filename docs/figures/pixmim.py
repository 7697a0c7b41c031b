#!/usr/bin/env python
"""Draw PixMIM: python docs/figures/pixmim.py [OUT.svg]."""

import sys
from pathlib import Path
from runpy import run_path

from diagrams import Diagram

OUT = Path(__file__).parents[2] / 'configs/pixmim/pixmim.svg'


def draw() -> Diagram:
    """The diagram: MAE's, with a filter."""
    draw_mae = run_path(str(Path(__file__).with_name('mae.py')))['draw_mae']
    return draw_mae(filtered='Low-pass filter\nof the whole image,\nideal, by frequency')


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
