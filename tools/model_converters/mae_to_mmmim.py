"""Convert weights of MAE, in the layout of its authors or of mmpretrain, to mmmim's format."""

import argparse

from mmmim.cli.arguments import converter_parser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line options."""
    parser = converter_parser(__doc__, 'file with or without the decoder, e.g. mae_pretrain_vit_base.pth')
    parser.add_argument(
        '--raw-pixels', action='store_true', help='the model was trained on raw, not on normalised pixels'
    )
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Convert and say what the model is."""
    args = parse_args()

    from mmmim.checkpoints import load_checkpoint_file, save_checkpoint_file
    from mmmim.converters.mae import convert_checkpoint

    checkpoint = load_checkpoint_file(args.src, trust=args.trust_checkpoint)
    converted = convert_checkpoint(
        checkpoint, args.src, args.num_heads, args.decoder_num_heads, normalize=not args.raw_pixels
    )
    save_checkpoint_file(converted, args.dst)
    backbone = converted['mmmim']['model']['backbone']
    branch = converted['mmmim']['model']['branches']['pixels']
    neck, pixels = branch['neck'], 'normalised' if branch['target_generator']['normalize'] else 'raw'
    decoder = (
        f'decoder of {neck["depth"]} blocks x {neck["embed_dim"]} with {neck["num_heads"]} heads, {pixels} pixels'
        if any(key.startswith('branches.') for key in converted['state_dict'])
        else 'no decoder: for features only'
    )
    print(
        f'{args.dst}: ViT of {backbone["depth"]} blocks x {backbone["embed_dim"]} with {backbone["num_heads"]} '
        f'heads, patch {backbone["patch_size"]}, {backbone["img_size"]} px; {decoder}'
        f'\nUse it: mmmim.get_model({args.dst!r})'
    )


if __name__ == '__main__':
    main()
