#!/usr/bin/env python
"""Write the models of all metafiles that model-index.yml imports, from the configs and pages beside them.

The head of a metafile, its Collections, is written by hand and stays. Sizes are those of the built models, numbers of
papers those of the page's columns "... (reported)", own numbers those recorded in projects/*/results.
"""

import argparse

from mmmim.cli.program import user_errors

from mmmim.cli.parser import ToolParser


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing; status 1 if a file is not up to date')
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from mmmim.config.resources import repository
    from mmmim.utils import InputError
    from mmmim.utils.metafiles import metafiles, write_metafile

    root = repository()
    if root is None:
        raise InputError('mmmim is installed without its repository: metafiles are written in a clone.')
    stale = []
    for path in metafiles(root):
        text = write_metafile(path, root)
        if text != path.read_text(encoding='utf-8'):
            stale.append(path.relative_to(root).as_posix())
            if not args.check:
                path.write_text(text, encoding='utf-8')
    done = 'Out of date' if args.check else 'Wrote'
    print(f'{done}: {", ".join(stale)}.' if stale else 'All metafiles are up to date.')
    if stale and args.check:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
