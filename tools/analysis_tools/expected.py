#!/usr/bin/env python
"""Record what the curves of healthy trainings of a config look like: expected.json beside the config, and a picture.

A training of the same settings shows the bands in its pictures, and says at its end whether it stayed inside.
"""

import argparse

from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='whose trainings they are, e.g. configs/capi/small.py')
    parser.add_argument('work_dirs', nargs='+', metavar='WORK_DIR', help='of trainings that differ in their seed')
    parser.add_argument('--picture', metavar='FILE', help='draw the first run among them, e.g. configs/capi/curves.png')
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from pathlib import Path

    import torch

    from mmmim.config.hashes import curves_hash
    from mmmim.config.read import load_config
    from mmmim.evaluation.measures.expected import extremes, make_bands, write_expected
    from mmmim.utils import InputError
    from mmmim.utils.outputs import check_picture
    from mmmim.visualization.curves import draw_healthy, read_scalars

    wanted = curves_hash(load_config(args.config))
    runs, seeds = {}, []
    for folder in args.work_dirs:
        used = Path(folder) / Path(args.config).name
        if not used.is_file():
            raise InputError(f'{folder} holds no {used.name}: it is no work folder of a training of {args.config}')
        cfg = load_config(str(used))
        if curves_hash(cfg) != wanted:
            raise InputError(f'{folder} is of a training with other settings than {args.config}')
        seeds.append(cfg.randomness.seed)
        runs[f'seed {seeds[-1]}'] = read_scalars(folder)
    if len(set(seeds)) < len(seeds):
        raise InputError(f'Two of the trainings have the same seed ({", ".join(map(str, seeds))}).')
    if args.picture:
        check_picture(args.picture, '--picture')
    bands = make_bands(list(runs.values()))
    about = f'torch {torch.__version__}, seeds {", ".join(map(str, sorted(seeds)))}'
    print(f'Wrote {write_expected(args.config, wanted, len(runs), bands, about)}.')
    if args.picture:
        name, first = next(iter(runs.items()))
        draw_healthy(f'{args.config}, {name} of {len(runs)}', first, extremes(list(runs.values())), args.picture)
        print(f'Wrote {args.picture}.')


if __name__ == '__main__':
    main()
