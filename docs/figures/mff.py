#!/usr/bin/env python
"""Draw MFF: python docs/figures/mff.py [OUT.svg]."""

import sys
from pathlib import Path
from runpy import run_path

from diagrams import Diagram

OUT = Path(__file__).parents[2] / 'configs/mff/mff.svg'


def draw() -> Diagram:
    """The diagram: MAE's, with a fusion of states."""
    draw_mae = run_path(str(Path(__file__).with_name('mae.py')))['draw_mae']
    return draw_mae(between='Fusion\nof states of\nsix blocks')


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
