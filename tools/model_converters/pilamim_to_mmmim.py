"""Convert a training checkpoint of PiLaMIM's authors to mmmim's format."""

import argparse

from mmmim.cli.arguments import converter_parser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line options."""
    source = 'state dict with both encoders and both decoders, e.g. pilamim_base_imagenet1k-799.pt'
    return converter_parser(__doc__, source, 'of the encoders', decoder_heads=12).parse_args()


@user_errors()
def main() -> None:
    """Convert and say what the model is."""
    args = parse_args()

    from mmmim.checkpoints import load_checkpoint_file, save_checkpoint_file
    from mmmim.converters.pilamim import convert_checkpoint

    checkpoint = load_checkpoint_file(args.src, trust=args.trust_checkpoint)
    converted = convert_checkpoint(checkpoint, args.src, args.num_heads, args.decoder_num_heads)
    save_checkpoint_file(converted, args.dst)
    model = converted['mmmim']['model']
    backbone = model['backbone']
    necks = [
        f'{name}: {neck["depth"]} blocks x {neck["embed_dim"]} with {neck["num_heads"]} heads'
        for name, neck in ((name, branch['neck']) for name, branch in model['branches'].items())
    ]
    print(
        f'{args.dst}: ViT of {backbone["depth"]} blocks x {backbone["embed_dim"]} with {backbone["num_heads"]} '
        f'heads, patch {backbone["patch_size"]}, {backbone["img_size"]} px, with its target encoder; decoders of '
        f'{"; ".join(necks)}\nUse it: mmmim.get_model({args.dst!r})'
    )


if __name__ == '__main__':
    main()
