"""Convert the weights released by the authors of CAPI to mmmim's format."""

import argparse

from mmmim.cli.arguments import add_trust_option
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line options."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('src', help='released file, e.g. capi_vitl14_lvd.pth')
    parser.add_argument('dst', help='file to write')
    add_trust_option(parser)
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Convert and say what the model is."""
    args = parse_args()

    from mmmim.checkpoints import load_checkpoint_file, save_checkpoint_file
    from mmmim.converters.capi import convert_checkpoint

    converted = convert_checkpoint(load_checkpoint_file(args.src, trust=args.trust_checkpoint), args.src)
    save_checkpoint_file(converted, args.dst)
    backbone = converted['mmmim']['model']['backbone']
    parameters = sum(value.numel() for value in converted['state_dict'].values())
    print(
        f'{args.dst}: ViT of {backbone["depth"]} blocks x {backbone["embed_dim"]}, patch '
        f'{backbone["patch_size"]}, {backbone["num_registers"]} registers; {parameters:,} parameters with predictor'
        f'\nUse it: mmmim.get_model({args.dst!r})'
    )


if __name__ == '__main__':
    main()
