#!/usr/bin/env python
"""Measure the training steps of configs eager, compiled and in micro-batches, each in a process of its own.

Writes OUT/results.json and OUT/table.md after every measurement; ratios are to the first variant of the same run.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mmmim.cli.arguments import COUNT, add_cfg_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors

# Options of a config, by the name of the variant. Ratios are to the first.
VARIANTS = {
    'eager': ['model.micro_batch_size=None'],
    'compiled': ['model.micro_batch_size=None', '+compile=True'],
    'compiled, CUDA graphs': ['model.micro_batch_size=None', "+compile={'mode': 'reduce-overhead'}"],
    'micro-batches': ['model.micro_batch_size=MICRO'],
}

RANKS = (2, 8, 32)


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('configs', nargs='+', metavar='CONFIG', help='config files')
    parser.add_argument('--out', required=True, metavar='FOLDER', help='where results go')
    parser.add_argument('--batch', type=COUNT, default=256, help='images of a step (default: 256)')
    parser.add_argument('--micro', type=COUNT, default=64, help='images of a micro-batch (default: 64)')
    parser.add_argument('--variants', nargs='+', choices=VARIANTS, default=list(VARIANTS), help='default: all')
    parser.add_argument('--steps', type=COUNT, default=6, help='iterations that are measured (default: 6)')
    parser.add_argument('--minutes', type=float, default=8, help='nothing is begun or goes on after these (default: 8)')
    add_cfg_options(parser)
    return parser.parse_args()


def measure(config: str, variant: str, args: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """What benchmark_train.py measures, or ``{'failed': a line of why}``."""
    if seconds <= 0:
        return {'failed': 'not run: time was up'}
    path = Path(config)
    out = Path(args.out, f'{path.parent.name}_{path.stem}_{list(VARIANTS).index(variant)}.json')
    options = [option.replace('MICRO', str(args.micro)) for option in VARIANTS[variant]]
    command = [sys.executable, str(Path(__file__).with_name('benchmark_train.py')), config, '--json', str(out)]
    command += ['--batch', str(args.batch), '--steps', str(args.steps), '--profile', '5']
    command += ['--cfg-options', *options, *args.cfg_options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return {'failed': 'ended: time was up'}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ['']
        return {'failed': next((line for line in reversed(lines) if 'out of memory' in line), lines[-1])}
    return json.loads(out.read_text())


def speed_row(name: str, result: dict[str, Any], first: dict[str, Any]) -> list[str]:
    """Cells of the table of speed."""
    from mmmim.utils.machine import gigabytes

    if 'failed' in result:
        return [name, result['failed'], '', '', '', '']
    rate = result['images_per_s']
    return [
        name,
        f'{result["seconds"]["iteration"]:.4f}',
        f'{rate:.1f}',
        f'{rate / first["images_per_s"]:.2f}' if 'images_per_s' in first else '',
        f'{result["utilisation"]:.1%}',
        gigabytes(result['memory']),
    ]


def paper_row(name: str, result: dict[str, Any]) -> list[str]:
    """Cells of the table of several GPUs."""
    from mmmim.cost.scaling import on_paper

    sizes = f'{result["gradients"] / 1e6:.1f}', f'{sum(result["waiting"]) / 1e6:.1f}'
    steps = on_paper(result, result['micro_batches'], RANKS)
    return [name, *sizes, *(f'{step["seconds"]:.4f} ({step["efficiency"]:.0%})' for step in steps)]


def table(results: dict[str, dict[str, Any]]) -> str:
    """All that was measured, as Markdown."""
    from mmmim.utils.tables import markdown_table

    rows, measured = [], {}
    for config, variants in results.items():
        first = next(iter(variants.values()))
        for variant, result in variants.items():
            name = f'`{config}`, {variant}'
            rows.append(speed_row(name, result, first))
            if 'failed' not in result:
                measured[name] = result
    speed = markdown_table(['config', 'seconds', 'images/s', 'ratio', 'of matrix products', 'memory'], rows)
    if not measured:
        return speed + '\n'
    one = next(iter(measured.values()))
    types = ' and '.join(sorted({result['dtype'] for result in measured.values()}))
    ranks = [f'{number} GPUs' for number in RANKS]
    paper = [paper_row(name, result) for name, result in measured.items()]
    items = [
        f'* {name}: ' + ', '.join(f'`{item}` {share:.1%}' for item, share in result['largest'])
        for name, result in measured.items()
    ]
    return '\n'.join(
        [
            f'{one["device"]}, torch {one["torch"]}, {types}, {one["images"]} images a step.',
            *('', speed, ''),
            'On paper, not measured: seconds of a step with as many images on each GPU, and what is kept of the speed.',
            *('', markdown_table(['config', 'MB of gradients', 'MB waited for', *ranks], paper), ''),
            *('Largest items of a step:', '', *items, ''),
        ]
    )


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from mmmim.utils.atomic import write_text_atomically

    begin, out = time.monotonic(), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    number = len(args.configs) * len(args.variants)
    # Variant by variant, so that time that runs out takes a variant, not a config.
    for variant in args.variants:
        for config in args.configs:
            left = args.minutes * 60 - (time.monotonic() - begin)
            result = measure(config, variant, args, left)
            results.setdefault(config, {})[variant] = result
            write_text_atomically(json.dumps(results, indent=1) + '\n', out / 'results.json')
            write_text_atomically(table(results), out / 'table.md')
            done = sum(map(len, results.values()))
            said = result.get('failed') or f'{result["images_per_s"]:.1f} images/s'
            print(f'[{done}/{number}] {config}, {variant}: {said}', flush=True)
    print(table(results))


if __name__ == '__main__':
    main()
