#!/usr/bin/env python
"""Draw CrossMAE: python docs/figures/crossmae.py [OUT.svg]."""

import sys
from pathlib import Path
from runpy import run_path

from diagrams import Diagram

OUT = Path(__file__).parents[2] / 'configs/crossmae/crossmae.svg'


def draw() -> Diagram:
    """The diagram: MAE's, with another decoder."""
    draw_mae = run_path(str(Path(__file__).with_name('mae.py')))['draw_mae']
    return draw_mae('Decoder\ncross-attention\nof mask tokens', alone=True, between='Mixtures\nof states,\none a block')


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
