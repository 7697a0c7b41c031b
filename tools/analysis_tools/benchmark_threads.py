#!/usr/bin/env python
"""Measure what threads, and how they wait for each other, cost a training on an idle and on a busy machine.

Trains a config for some iterations (tools/train.py) with every policy, beside 0 and more processes that keep a core
busy each, and prints the median seconds of an iteration. For numbers that mean something nothing else may run.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors

#: Environment variables of each policy. 'libraries' is what happens without a choice of the tools: a variable that only
#: another OpenMP than torch's reads, with its default.
POLICIES = {
    'tools': {},
    'libraries': {'KMP_BLOCKTIME': '200'},
    'short spinning': {'GOMP_SPINCOUNT': '10000'},
    'one thread': {'OMP_NUM_THREADS': '1'},
}


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?', default='configs/capi/small.py', help='(default: %(default)s)')
    cores = os.cpu_count() or 1
    parser.add_argument(
        '--busy',
        type=int,
        nargs='+',
        default=[0, cores, 2 * cores],
        help='processes beside the training (default: 0, and one and two per core)',
    )
    parser.add_argument('--steps', type=int, default=12, help='iterations that count (default: %(default)s)')
    parser.add_argument('--warmup', type=int, default=3, help='iterations before them (default: %(default)s)')
    parser.add_argument(
        '--policies', nargs='+', default=list(POLICIES), choices=list(POLICIES), help='(default: all of them)'
    )
    return parser.parse_args()


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Inside, so many processes keep a core busy each."""
    processes = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def seconds(config: str, variables: dict[str, str], steps: int, warmup: int) -> float:
    """Median time of an iteration of a training with these environment variables.

    Raises:
        InputError: The training fails.
    """
    from statistics import median

    from mmmim.utils import InputError
    from mmmim.utils.threads import NUMBER, WAITING

    environment = {key: value for key, value in os.environ.items() if key not in (*NUMBER, *WAITING)} | variables
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(Path(__file__).parents[1] / 'train.py'), config, '--work-dir', folder]
        command += ['--no-validate', '--cfg-options', f'train_cfg.max_iters={warmup + steps}']
        command += ['default_hooks.logger.interval=1', 'log_processor.window_size=1', '+default_hooks.probe=None']
        command += ['param_scheduler=None']
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError(f'{config} could not be trained: {done.stderr[-500:]}')
        (log,) = Path(folder).glob('*/vis_data/scalars.json')
        rows = [json.loads(line) for line in log.read_text().splitlines()]
    times = [row['time'] for row in rows if 'time' in row]
    return median(times[warmup:])


@user_errors()
def main() -> None:
    """Measure and print a table."""
    args = parse_args()

    from mmmim.utils import InputError
    from mmmim.utils.tables import markdown_table

    if min(args.busy) < 0 or args.steps < 1 or args.warmup < 0:
        raise InputError('--busy and --warmup must be 0 or more, --steps 1 or more.')
    columns: dict[str, list[float]] = {name: [] for name in args.policies}
    for number in args.busy:
        for name in args.policies:
            with busy(number):
                columns[name].append(seconds(args.config, POLICIES[name], args.steps, args.warmup))
            print(f'{number} busy processes, {name}: {columns[name][-1]:.3f} s', flush=True)
    rows = [
        [name, *(f'{value:.3f} s ({value / times[0]:.1f} x)' for value in times)] for name, times in columns.items()
    ]
    print(f'\nMedian seconds of an iteration of {args.config}, {os.cpu_count()} cores:\n')
    print(markdown_table(['threads', *(f'{number} busy' for number in args.busy)], rows))


if __name__ == '__main__':
    main()
