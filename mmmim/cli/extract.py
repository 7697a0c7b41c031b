"""Write the features of images to a file: of a folder, of the files that a list names, or of one image.

Images are resized at the shorter side (bicubic, antialiased) and cropped to the central square. An interrupted call
goes on when it is repeated. Under torchrun every process takes a part of the images:
torchrun --nproc-per-node 8 -m mmmim.cli.main extract CKPT IMAGES OUT
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from .arguments import CHECKPOINT, COUNT, FEATURES, NATURAL, add_model_options
from .parser import ToolParser
from .program import user_errors


def build_parser() -> ToolParser:
    """The command line."""
    parser = ToolParser(
        description=__doc__,
        epilog='What the files hold: docs/en/features.md.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('checkpoint', metavar='CKPT', help=CHECKPOINT)
    parser.add_argument(
        'images',
        metavar='IMAGES',
        help='a folder, with all folders below it; an image; or a text file (.txt) with a path a line, from the '
        'current folder',
    )
    parser.add_argument('out', metavar='OUT', help='file to write: .npz, .npy, .h5 or .parquet')
    feature = parser.add_mutually_exclusive_group()
    feature.add_argument(
        '--feature', default='pooled', metavar='NAME', help=f'{FEATURES}, patches, tokens (default: pooled)'
    )
    feature.add_argument(
        '--patches',
        dest='feature',
        action='store_const',
        const='featmap',
        help='maps of the patches, --feature featmap',
    )
    parser.add_argument(
        '--layers', nargs='+', type=int, help='blocks, from 0; negative ones from the end (default: the last)'
    )
    parser.add_argument('--size', type=COUNT, help='side of the square images (default: as in training)')
    parser.add_argument('--batch-size', type=COUNT, default=64, help='images encoded at a time (default: %(default)s)')
    parser.add_argument('--workers', type=NATURAL, default=2, help='processes that read images (default: %(default)s)')
    parser.add_argument(
        '--dtype', choices=['float32', 'float16'], default='float32', help='of the values in the file (float32)'
    )
    add_model_options(parser)
    return parser


def weights_facts(args: argparse.Namespace, model: Any) -> dict[str, Any]:
    """Whose weights a command line names, as JSON data."""
    from pathlib import Path

    from mmmim.checkpoints import trusting
    from mmmim.config.downloads import file_sha256
    from mmmim.converters.published import find_weights

    from .inputs import is_random

    if is_random(args.checkpoint):
        return {'checkpoint': args.checkpoint, 'sha256': None, 'weights': 'random'}
    with trusting(args.trust_checkpoint):
        file = Path(find_weights(args.checkpoint)[0]).expanduser()
    return {'checkpoint': args.checkpoint, 'sha256': file_sha256(file), 'weights': model.kind}


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Extract.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    args = build_parser().parse_args(argv)
    rank, processes = int(os.environ.get('RANK', 0)), int(os.environ.get('WORLD_SIZE', 1))

    import contextlib
    from pathlib import Path

    import numpy as np
    import torch

    from mmmim.features.extract_files import Extraction, Reading
    from mmmim.features.feature_files import format_of
    from mmmim.features.names import FeatureName
    from mmmim.utils.outputs import check_file, check_folder

    from .inputs import fitting_size, list_sources, load_model

    out = Path(args.out)
    format_of(out)
    check_file(args.out, 'OUT')
    check_folder(os.path.dirname(args.out) or '.', 'OUT')
    FeatureName.of(args.feature)
    root, paths = list_sources(args.images)
    if processes > 1:
        from mmmim.engine.ddp import init_process_group_on_cpu, main_process_decides

        init_process_group_on_cpu(24 * 3600.0)  # no process waits longer for the slowest
        if args.device is None and torch.cuda.is_available():
            args.device = f'cuda:{os.environ.get("LOCAL_RANK", 0)}'
    model = load_model(args)
    size = fitting_size(args.size or model.image_size, model)
    reading = Reading(model, args.feature, args.layers, size, args.dtype)
    extraction = Extraction(reading, paths, root, out, weights_facts(args, model))
    with contextlib.closing(extraction):
        # What is still to be read is known before any process writes.
        todo = extraction.prepare() if processes == 1 else main_process_decides(extraction.prepare)
        if todo is None:
            if rank == 0:
                print(f'{out} is there already, of the same call: nothing to do.')
            return
        part = np.array_split(todo, processes)[rank]
        extraction.run(part, args.batch_size, args.workers, show=rank == 0)
        if processes > 1:
            torch.distributed.barrier()
        if rank == 0:
            print(extraction.finish())


if __name__ == '__main__':
    main()
