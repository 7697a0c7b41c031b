#!/usr/bin/env python
"""Measure training steps beside plain loops over timm's blocks, in turns in one run: seconds and peak memory.

A plain loop is what MAE, PiLaMIM and I-JEPA are in the fewest lines: the whole batch through timm's blocks, AdamW, an
EMA of the encoder where there is a teacher, and no runner. Both get the batches of the method's config, of noise.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.connection import Connection
from typing import Any

from mmmim.cli.arguments import COUNT
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors

#: Methods that have a plain loop, which are folders of configs, and the width of a head there.
METHODS, HEAD = ('mae', 'pilamim', 'ijepa'), 64


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('methods', nargs='*', metavar='METHOD', help=f'of {", ".join(METHODS)} (default: all)')
    parser.add_argument('--batch', type=COUNT, default=32, help='images of a step (default: 32)')
    parser.add_argument('--micro', type=COUNT, default=8, help='images of a micro-batch (default: 8)')
    parser.add_argument('--width', type=COUNT, default=384, help=f'of the encoder, in heads of {HEAD} (default: 384)')
    parser.add_argument('--turns', type=COUNT, default=4, help='steps of each that are measured (default: 4)')
    parser.add_argument('--threads', type=COUNT, default=2, help='default: 2')
    args = parser.parse_args()
    for method in args.methods:
        if method not in METHODS:
            parser.error(f'{method!r} has no plain loop: give {", ".join(METHODS)}.')
    if args.width % HEAD:
        parser.error(f'--width {args.width}: give a multiple of {HEAD}.')
    return args


def build_config(method: str, args: argparse.Namespace) -> Any:
    """The config of a method at the width of the plain loop, with noise for images."""
    import benchmark_train

    from mmmim.cost.plain_loops import PLAIN

    width = args.width
    options = [f'model.backbone.embed_dim={width}', f'model.backbone.num_heads={width // HEAD}']
    options += [option.format(width=width) for option in PLAIN[method].options]
    options += ['optim_wrapper.dtype=None', 'model.micro_batch_size=None']
    config = f'{os.path.dirname(__file__)}/../../configs/{method}/vitb16.py'
    like = argparse.Namespace(
        config=config, cfg_options=options, batch=args.batch, data=False, warmup=1, steps=args.turns
    )
    with tempfile.TemporaryDirectory() as work_dir:
        return benchmark_train.build_config(like, work_dir)


def plain_step(method: str, cfg: Any, args: argparse.Namespace) -> Callable[[dict[str, Any]], None]:
    """A step of the plain loop."""
    import torch

    from mmmim.cost.plain_loops import PLAIN
    from mmmim.registry import MODELS

    model = PLAIN[method](args.width)
    prepared = MODELS.build(cfg.model.data_preprocessor)
    optimiser = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad], betas=(0.9, 0.95)
    )

    def step(data: dict[str, Any]) -> None:
        data = prepared(data, training=True)
        optimiser.zero_grad()
        model(data['inputs'], data['mask'].visible, data['mask'].predict).backward()
        optimiser.step()
        if hasattr(model, 'teacher'):
            with torch.no_grad():
                for old, new in zip(model.teacher.parameters(), model.encoder.parameters(), strict=True):
                    old.lerp_(new, 0.01)

    return step


def own_step(cfg: Any) -> Callable[[dict[str, Any]], None]:
    """A step of a config, without runner and hooks."""
    from mmengine.optim import build_optim_wrapper

    from mmmim.cost.step import bare_step
    from mmmim.registry import MODELS

    model = MODELS.build(cfg.model)
    optim_wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    return lambda data: bare_step(model, data, optim_wrapper)


def serve(connection: Connection, method: str, micro: int | None, args: argparse.Namespace) -> None:
    """In a process of its own: a step whenever asked for, and its seconds and the peak memory so far.

    Args:
        connection: To the process that asks.
        method: Of :data:`METHODS`.
        micro: Images of a micro-batch; None for the plain loop.
        args: The command line.
    """
    import torch
    from mmengine.logging import MMLogger

    from mmmim.engine import Runner
    from mmmim.utils.machine import peak_resident_memory

    MMLogger.get_instance('benchmark_plain', log_level='WARNING')
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    cfg = build_config(method, args)
    batches = iter(Runner.build_dataloader(cfg.train_dataloader, seed=0))
    if micro is not None:
        cfg.model.micro_batch_size = micro
    step = plain_step(method, cfg, args) if micro is None else own_step(cfg)
    while connection.recv():
        data = next(batches)
        start = time.perf_counter()
        step(data)
        connection.send((time.perf_counter() - start, peak_resident_memory()))


def measure(method: str, args: argparse.Namespace) -> list[list[str]]:
    """Rows of the table of a method."""
    from mmmim.utils.machine import gigabytes

    context = multiprocessing.get_context('spawn')
    ways = {'plain loop': None, 'whole batch': args.batch, f'`model.micro_batch_size={args.micro}`': args.micro}
    ends, processes = {}, []
    for way, micro in ways.items():
        ends[way], other = context.Pipe()
        processes.append(context.Process(target=serve, args=(other, method, micro, args), daemon=True))
        processes[-1].start()
        other.close()
    found: dict[str, list[tuple[float, int | None]]] = {way: [] for way in ways}
    for turn in range(args.turns + 1):
        for way, end in ends.items():
            end.send(True)
            found[way].append(end.recv())
        print(f'{method}: {turn}/{args.turns} turns', flush=True)
    for end, process in zip(ends.values(), processes, strict=True):
        end.send(False)
        process.join()
    seconds = {way: [second for second, _ in rows[1:]] for way, rows in found.items()}
    plain = seconds['plain loop']
    rows = []
    for way, own in seconds.items():
        memory = found[way][-1][1]
        ratio = statistics.median(one / other for one, other in zip(own, plain, strict=True))
        part = f'{memory / found["plain loop"][-1][1]:.2f}' if memory else ''
        rows.append([method, way, f'{statistics.median(own):.2f}', f'{ratio:.2f}', gigabytes(memory), part])
    return rows


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import torch

    from mmmim.cost.plain_loops import DEPTH
    from mmmim.utils import InputError
    from mmmim.utils.machine import cpu_name
    from mmmim.utils.tables import markdown_table

    if find_spec('timm') is None:
        raise InputError('benchmark_plain.py needs the library timm: pip install "mmmim[timm]"')

    rows = [row for method in args.methods or METHODS for row in measure(method, args)]
    print(
        f'\n{cpu_name()}, {args.threads} threads, torch {torch.__version__}, fp32, eager, {args.batch} images; encoder'
    )
    print(
        f'{DEPTH} x {args.width}; medians of {args.turns} steps, ratios of neighbouring ones; memory with libraries\n'
    )
    print(markdown_table(['method', '', 's', 'x plain', 'memory', 'x plain'], rows))


if __name__ == '__main__':
    main()
