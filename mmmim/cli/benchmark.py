"""Run many protocols over encoders: scores, a table and a page, with random weights beside every encoder."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from .arguments import COUNT, add_checkpoint_options
from .parser import ToolParser
from .program import user_errors


def build_parser() -> ToolParser:
    """The command line."""
    parser = ToolParser(description=__doc__, intermixed=True)
    parser.add_argument(
        'encoders',
        nargs='+',
        metavar='CKPT',
        help='a checkpoint of mmmim or a converted one; a name of published weights (mmmim list --pretrained); the '
        'name of a config: random weights; timm:NAME=FILE, mmpretrain:NAME=FILE: a file of another library; '
        'huggingface:FOLDER: a model of Hugging Face',
    )
    parser.add_argument(
        '--suite',
        default='quick',
        help='quick: what needs no download; papers: the protocols of the four papers; all; or a config file with '
        'protocols (default: quick)',
    )
    parser.add_argument(
        '--out',
        default='work_dirs/benchmark',
        metavar='DIR',
        help='folder of benchmark.json, benchmark.md and index.html; an interrupted benchmark goes on there (default: '
        '%(default)s)',
    )
    parser.add_argument('--only', nargs='+', default=[], metavar='NAME', help='run these protocols of the suite only')
    parser.add_argument(
        '--weights',
        default='auto',
        choices=['auto', 'ema', 'student'],
        help='of checkpoints of mmmim; auto: those of the teacher if there are',
    )
    parser.add_argument(
        '--processes', type=COUNT, help='processes of every protocol (default: as many as there are GPUs, or one)'
    )
    add_checkpoint_options(parser)
    return parser


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Run a benchmark.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    import sys

    args = build_parser().parse_args(argv)
    words = sys.argv[1:] if argv is None else list(argv)

    from datetime import datetime
    from pathlib import Path

    import torch

    from mmmim.benchmark.encoders import read_encoders
    from mmmim.benchmark.page import write_page
    from mmmim.benchmark.reported import reported
    from mmmim.benchmark.results import Record, read_results
    from mmmim.benchmark.run import Benchmark
    from mmmim.benchmark.suite import read_suite
    from mmmim.checkpoints import trusting
    from mmmim.utils import InputError
    from mmmim.utils.machine import machine_name
    from mmmim.version import __version__

    protocols = read_suite(args.suite)
    if unknown := {*args.only} - {protocol.name for protocol in protocols}:
        raise InputError(
            f'--only {", ".join(sorted(unknown))}: the suite has {", ".join(protocol.name for protocol in protocols)}.'
        )
    folder = Path(args.out)
    done = read_results(folder)
    about = {
        'command': f'mmmim benchmark {shlex.join(words)}',
        'date': f'{datetime.now():%Y-%m-%d}',
        'mmmim': __version__,
        'torch': torch.__version__,
        'machine': machine_name(),
    }
    with trusting(args.trust_checkpoint):
        encoders = read_encoders(args.encoders, args.weights)
        record = Record(about, [each for each in protocols if not args.only or each.name in args.only], encoders)
        folder.mkdir(parents=True, exist_ok=True)
        beside = reported(record.protocols)

        def finished() -> None:
            record.write(folder)
            write_page(record, folder, beside)

        Benchmark(record, folder, args.processes or max(torch.cuda.device_count(), 1), done).run(finished)
    for name, reason in record.skipped.items():
        print(f'Left out: {name}: {reason}')
    print(f'\n{record.table()}\n\nTable, record and page: {folder}/benchmark.md, benchmark.json, index.html')
