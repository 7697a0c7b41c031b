#!/usr/bin/env python
"""Train and test a protocol with several seeds, and maybe numbers of images per class: mean and deviation of each.

Deviations are those of a sample, with n - 1. A run that is done is not made again, one that was interrupted goes on.
"""

import argparse
import os

from mmmim.cli.arguments import COUNT, SEED, add_cfg_options, add_pretrained_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config that trains a head, such as configs/eval/cls_fewshot_fashion.py')
    add_pretrained_options(parser)
    parser.add_argument('--seeds', type=SEED, nargs='+', default=[1, 2, 3], help='(default: 1 2 3)')
    parser.add_argument('--shots', type=COUNT, nargs='+', help='images per class (default: as the config says)')
    parser.add_argument(
        '--work-dir',
        help='folder of the runs and the results (default: work_dirs/repeat/<name of the config, and MMMIM_DATA>)',
    )
    parser.add_argument('--processes', type=COUNT, default=1, help='GPUs of a run (default: %(default)s)')
    add_cfg_options(parser, 'train_cfg.max_iters=500')
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import json
    from pathlib import Path

    from mmmim.comparison.repeats import make_repeats, run, summary, table
    from mmmim.config.read import load_config
    from mmmim.utils import InputError
    from mmmim.utils.atomic import write_text_atomically

    cfg = load_config(args.config)
    if cfg.get('train_dataloader') is None:
        raise InputError(f'{args.config} trains nothing: it has no train_dataloader.')
    data = os.environ.get('MMMIM_DATA')
    name = os.path.splitext(os.path.basename(args.config))[0] + (f'_{data}' if data else '')
    work_dir = Path(args.work_dir or Path('work_dirs') / 'repeat' / name)
    repeats = make_repeats(cfg, args.seeds, args.shots, work_dir)
    words = [
        word for key in ('pretrained', 'encoder') if getattr(args, key) for word in (f'--{key}', getattr(args, key))
    ]
    words += ['--weights', args.weights] if args.weights != 'auto' else []
    words += ['--trust-checkpoint'] if args.trust_checkpoint else []
    words += [word for module in args.imports or () for word in ('--import', module)]
    for number, repeat in enumerate(repeats, 1):
        print(f'[{number}/{len(repeats)}] {repeat.folder}', flush=True)
        run(repeat, args.config, words, args.cfg_options, args.processes)
    rows = summary(repeats)
    text = table(rows)
    print(f'\n{text}\n')
    about = {'config': args.config, 'data': data, 'pretrained': args.pretrained}
    about |= {'encoder': args.encoder, 'weights': args.weights, 'options': args.cfg_options}
    write_text_atomically(json.dumps({'about': about, 'rows': rows}, indent=1) + '\n', str(work_dir / 'repeat.json'))
    write_text_atomically(f'{args.config}, {args.pretrained}\n\n{text}\n', str(work_dir / 'repeat.md'))
    print(f'Wrote {work_dir}/repeat.json and .md.')


if __name__ == '__main__':
    main()
