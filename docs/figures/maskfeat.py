#!/usr/bin/env python
"""Draw MaskFeat: python docs/figures/maskfeat.py [OUT.svg]."""

import sys
from pathlib import Path
from runpy import run_path

from diagrams import Diagram

OUT = Path(__file__).parents[2] / 'configs/maskfeat/maskfeat.svg'


def draw() -> Diagram:
    """The diagram: BEiT's, with other targets."""
    draw_fused = run_path(str(Path(__file__).with_name('beit.py')))['draw_fused']
    return draw_fused(
        'HOG\ndirections of gradients\nin cells of a patch',
        'plain',
        '[B, M, 108]',
        '[B, M, 108]',
        'Loss\nmean square error\nof M patches',
        {'student': 'trained by the loss', 'plain': 'no parameters', 'loss': 'loss'},
    )


if __name__ == '__main__':
    draw().save(sys.argv[1] if len(sys.argv) > 1 else OUT)
