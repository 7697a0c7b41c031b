#!/usr/bin/env python
"""Run a step again whose losses or gradients were not finite, and say where they come from.

A training that learns nothing any more ends with an error and writes such a step into its work folder
(nonfinite_iter_N.pth): the images, masks and seeds, and the weights before it.
"""

import argparse

from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('capture', metavar='FILE', help='nonfinite_iter_N.pth of a work folder')
    parser.add_argument(
        '--config', help='config of the training, for models of projects: what it imports (custom_imports) is imported'
    )
    parser.add_argument(
        '--checkpoint', metavar='CKPT', help='take the weights of this checkpoint, for captures that hold none'
    )
    parser.add_argument('--device', help='default: cuda if there is a GPU')
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from mmmim.cli.inputs import pick_device
    from mmmim.config.read import load_config
    from mmmim.engine.replay import replay

    if args.config:
        load_config(args.config)
    print(replay(args.capture, str(pick_device(args.device)), args.checkpoint).text())


if __name__ == '__main__':
    main()
