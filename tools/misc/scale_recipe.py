#!/usr/bin/env python
"""Scale a pre-training config to another number of iterations and another batch.

Prints a config that inherits from CONFIG and sets what changes: learning rate, warm-up and EMA momentum together. Every
change carries a comment with the old value, the new value and the rule.
"""

import argparse
import os

from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('config', help='config file of the pre-training')
    parser.add_argument('--iters', type=int, metavar='N', help="number of iterations (default: the config's)")
    parser.add_argument('--batch', type=int, metavar='B', help="images per iteration, all GPUs (default: the config's)")
    parser.add_argument(
        '--lr-rule',
        choices=['sqrt', 'linear'],
        default='sqrt',
        help='the learning rate goes with the square root of the batch, as Adam wants it, or with the batch '
        '(default: sqrt)',
    )
    parser.add_argument('--out', metavar='FILE', help='a new .py file (default: print, with the full path of CONFIG)')
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from mmmim.config.read import load_config
    from mmmim.config.resources import find_config
    from mmmim.config.scale import render, scale_recipe
    from mmmim.registry import SCHEDULES
    from mmmim.utils import InputError

    base = os.path.abspath(args.config if os.path.isfile(args.config) else find_config(args.config) or args.config)
    if args.out is not None:
        folder = os.path.dirname(os.path.abspath(args.out))
        if not args.out.endswith('.py'):
            raise InputError(f'--out {args.out}: give a file that ends in .py.')
        if not os.path.isdir(folder):
            raise InputError(f'The folder {folder} for --out does not exist.')
        if os.path.exists(args.out):
            raise InputError(f'--out {args.out} exists already: give the name of a new file.')
        base = os.path.relpath(base, folder)
    cfg = load_config(args.config).to_dict()
    recipe = scale_recipe(cfg, SCHEDULES.get, args.iters, args.batch, args.lr_rule)
    options = [f' --{name} {value}' for name in ('iters', 'batch') if (value := getattr(args, name)) is not None]
    command = f'scale_recipe.py {os.path.basename(args.config)}{"".join(options)} --lr-rule {args.lr_rule}'
    text = render(
        recipe, base, f'Written by {command}; what is not named here is as in {os.path.basename(args.config)}.'
    )
    if args.out is None:
        print(text, end='')
    else:
        with open(args.out, 'w', encoding='utf-8') as file:
            file.write(text)
        print(f'Wrote {args.out}.')


if __name__ == '__main__':
    main()
