#!/usr/bin/env python
"""Cut the part of Fashion-MNIST that mmmim brings along: of every class the first 1000 training and 200 test images."""

from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


@user_errors()
def main() -> None:
    """Run the command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('source', metavar='SRC', help='folder of the four files of Fashion-MNIST')
    parser.add_argument('out', metavar='DIR', help='folder of the files that are written')
    parser.add_argument('--per-class', type=int, nargs=2, default=(1000, 200), metavar=('TRAIN', 'TEST'))
    args = parser.parse_args()

    import gzip
    from pathlib import Path

    import numpy as np

    from mmmim.datasets.fashion_scenes_generator import FILES, read_items

    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    for part, number in zip(('train', 'test'), args.per_class, strict=True):
        items = read_items(args.source, part)
        kept = np.sort(np.concatenate([np.flatnonzero(items.classes == label)[:number] for label in range(10)]))
        for name, array in zip(FILES[part], (items.images[kept], items.classes[kept]), strict=True):
            header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, '>u4').tobytes()
            (out / f'{name}.gz').write_bytes(gzip.compress(header + array.tobytes(), 9, mtime=0))


if __name__ == '__main__':
    main()
