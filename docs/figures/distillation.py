#!/usr/bin/env python
"""Draw methods with frozen teachers: python docs/figures/distillation.py [OUT.svg]."""

import sys
from pathlib import Path
from runpy import run_path

from diagrams import Diagram

OUT = Path(__file__).parents[2] / 'configs/distillation/distillation.svg'


def draw() -> Diagram:
    """The diagram: BEiT's, with another teacher."""
    draw_fused = run_path(str(Path(__file__).with_name('beit.py')))['draw_fused']
    return draw_fused(
        'Frozen encoder\nof any library, all\npatches, then picked',
        'teacher',
        '[B, M, K]',
        '[B, M, K]',
        'Loss\n2 - 2 cos\nof M patches',
        {'student': 'trained by the loss', 'teacher': 'trained before, frozen', 'loss': 'loss'},
    )


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
