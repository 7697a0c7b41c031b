#!/usr/bin/env python
"""Score one encoder by the protocols of a suite, as `mmmim benchmark` does, and write one number for each."""

import argparse

from mmmim.cli.arguments import CHECKPOINT, SEED, add_checkpoint_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__)
    add_checkpoint_options(parser)
    parser.add_argument('checkpoint', metavar='CKPT', help=CHECKPOINT)
    parser.add_argument('--suite', required=True, help='quick, papers, all, or a config file with protocols')
    parser.add_argument('--weights', default='auto', help='of a checkpoint: ema, student or auto (default)')
    parser.add_argument('--seed', type=SEED, default=0, help='of random weights, and of heads that are trained')
    parser.add_argument('--work-dir', default='work_dirs/protocols', help='an interrupted call goes on there')
    parser.add_argument('--out', metavar='FILE.json', required=True, help='the scores, by the names of the protocols')
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import json
    from dataclasses import replace
    from pathlib import Path

    from mmmim.benchmark.encoders import read_encoders
    from mmmim.benchmark.results import Record, read_results
    from mmmim.benchmark.run import Benchmark
    from mmmim.benchmark.suite import read_suite
    from mmmim.checkpoints import trusting
    from mmmim.utils import InputError
    from mmmim.utils.atomic import write_text_atomically
    from mmmim.utils.outputs import check_file

    check_file(args.out)
    folder = Path(args.work_dir)
    protocols = [
        replace(each, options={**each.options, 'randomness.seed': args.seed}) for each in read_suite(args.suite)
    ]
    with trusting(args.trust_checkpoint):
        encoder = read_encoders([args.checkpoint], args.weights)[-1]
        record = Record({}, protocols, [encoder])
        folder.mkdir(parents=True, exist_ok=True)
        Benchmark(record, folder, 1, read_results(folder)).run(lambda: record.write(folder))
    missing = [
        f'{protocol.name}: {record.skipped.get(protocol.name) or record.results[protocol.name, encoder.label].message}'
        for protocol in protocols
        if protocol.name in record.skipped or record.score(protocol, encoder) is None
    ]
    if missing:
        raise InputError(f'{args.checkpoint} has no score of {"; ".join(missing)}')
    scores = {protocol.name: record.score(protocol, encoder) for protocol in protocols}
    write_text_atomically(json.dumps(scores, indent=2) + '\n', args.out)


if __name__ == '__main__':
    main()
