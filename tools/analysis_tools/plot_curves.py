#!/usr/bin/env python
"""Draw the training curves of one or more work folders.

Probes and health that were logged get a picture of their own beside that of the training: probes.png and health.png
beside curves.png, a_probes.png and a_health.png beside a.png.
"""

import argparse
import os

from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='folders that trainings wrote to')
    parser.add_argument('--out', default='curves.png', help='the picture of the training (default: curves.png)')
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from mmmim.utils import InputError
    from mmmim.utils.outputs import check_picture
    from mmmim.visualization.curves import draw_pictures, read_scalars

    folders = [os.path.abspath(folder) for folder in args.work_dirs]
    names = [os.path.basename(folder) for folder in folders]
    if len(set(names)) < len(names):
        names = args.work_dirs
    runs = {}
    for name, folder in zip(names, folders, strict=True):
        runs[name] = read_scalars(folder)
        if not runs[name]:
            raise InputError(f'{folder} holds no training log (*/vis_data/scalars.json).')
    parent = os.path.dirname(os.path.abspath(args.out))
    if not os.path.isdir(parent):
        raise InputError(f'The folder {parent} for --out does not exist.')
    check_picture(args.out)
    for path in draw_pictures(runs, args.out, title=names[0] if len(runs) == 1 else None):
        print(f'Wrote {path}.')


if __name__ == '__main__':
    main()
