#!/usr/bin/env python
"""Train and score all arms of a comparison with several seeds, and write a table and a figure."""

import argparse

from mmmim.cli.arguments import COUNT, SEED
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('spec', help='e.g. projects/fashion_scenes/spec.py')
    parser.add_argument('--work-dir', default='work_dirs/comparison', help='an interrupted comparison goes on there')
    parser.add_argument('--split', choices=['val', 'test'], default='val', help='where to score (default: val)')
    parser.add_argument('--seeds', type=SEED, nargs='+', help='instead of those of the specification')
    parser.add_argument(
        '--only',
        nargs='+',
        default=[],
        metavar='NAME',
        help='run these subsets and arms only; results are of all that is done',
    )
    parser.add_argument(
        '--continue-from',
        metavar='RECORD',
        help='a results.json, whose runs are not made again where config, seed and scores are the same',
    )
    parser.add_argument('--jobs', type=COUNT, default=2, help='runs at a time, one core each (default: 2)')
    parser.add_argument(
        '--check',
        nargs='?',
        const='',
        metavar='RECORD',
        help='run nothing: say which arms have another config than in this record '
        '(default: results/results.json beside the specification)',
    )
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import json
    from pathlib import Path

    from mmmim.comparison.jobs import collect, finished, make_jobs, needed, pictures, prepare, restore, run_jobs
    from mmmim.comparison.record import changes, describe
    from mmmim.comparison.tables import arguments_table, tables
    from mmmim.config.read import load_config
    from mmmim.utils import InputError
    from mmmim.utils.atomic import write_text_atomically

    spec = load_config(args.spec)
    wanted = {'subsets', 'seeds', 'title', 'figure_scores', *(['argument_scores'] if spec.get('arguments') else [])}
    if missing := wanted - {*spec}:
        raise InputError(f'{args.spec} is no specification of a comparison: it has no {", ".join(sorted(missing))}.')
    if args.check is not None:
        found = changes(Path(args.check or Path(args.spec).parent / 'results/results.json'), spec)
        print('\n'.join(found) or 'Every arm has the config of the record.')
        raise SystemExit(bool(found))

    import torch

    from mmmim.visualization.bars import draw_bars

    work_dir = Path(args.work_dir).resolve()
    jobs = make_jobs(spec, args.seeds or spec.seeds, work_dir, args.split)
    names = {name for job in jobs for name in (job.subset, job.arm)}
    if unknown := {*args.only} - names:
        raise InputError(f'--only {", ".join(sorted(unknown))}: there are {", ".join(sorted(names))}.')
    if args.continue_from is not None:
        print(f'{restore(jobs, Path(args.continue_from))} runs are those of {args.continue_from}.', flush=True)
    chosen = [job for job in jobs if not args.only or {job.subset, job.arm} & {*args.only}]
    open_arms = [spec.subsets[job.subset][job.arm] for job in chosen if not job.scores.exists()]
    prepare(needed(spec.get('prepare', {}), open_arms))
    run_jobs(chosen, args.jobs)

    results = collect(jobs)
    made = tables(results, spec.subsets, spec.get('table_scores', ()))
    text = '\n\n'.join(f'**{subset}**, {args.split} split\n\n{table}' for subset, table in made.items())
    if spec.get('arguments'):
        text += '\n\n**arguments**\n\n' + arguments_table(results, spec.arguments, spec.argument_scores)
    print(f'\n{text}\n')
    about = {'torch': torch.__version__, 'split': args.split, 'seeds': args.seeds or spec.seeds}
    folder = work_dir / args.split
    write_text_atomically(
        json.dumps({'about': about, 'results': results, **describe(spec), 'runs': finished(jobs)}, indent=1) + '\n',
        str(folder / 'results.json'),
    )
    write_text_atomically(text + '\n', str(folder / 'table.md'))
    draw_bars(results, spec.subsets, spec.figure_scores, folder / 'figure.png', f'{spec.title}, {args.split} split')
    print(f'Wrote {folder}/results.json, table.md and figure.png.')
    if not args.only and not args.seeds:  # all models are there
        prepare(pictures(spec, work_dir))


if __name__ == '__main__':
    main()
