"""Convert a training checkpoint of I-JEPA's authors to mmmim's format."""

import argparse

from mmmim.cli.arguments import converter_parser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line options."""
    parser = converter_parser(
        __doc__, 'file, e.g. IN1K-vit.h.14-300e.pth.tar', 'of the encoders and of the predictor', decoder_heads=None
    )
    parser.add_argument(
        '--encoder',
        choices=('both', 'target_encoder', 'encoder'),
        default='both',
        help='both: the whole state but the optimiser (default), whose features are those of the target encoder; or '
        'one of the encoders alone, for features only: timm and Hugging Face have "encoder"',
    )
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Convert and say what the model is."""
    args = parse_args()

    from mmmim.checkpoints import load_checkpoint_file, save_checkpoint_file
    from mmmim.converters.ijepa import convert_checkpoint

    checkpoint = load_checkpoint_file(args.src, trust=args.trust_checkpoint)
    converted = convert_checkpoint(checkpoint, args.src, args.num_heads, args.encoder)
    save_checkpoint_file(converted, args.dst)
    backbone = converted['mmmim']['model']['backbone']
    neck = converted['mmmim']['model']['branches']['latent']['neck']
    rest = (
        f'target encoder and encoder; predictor of {neck["depth"]} blocks x {neck["embed_dim"]}'
        if args.encoder == 'both'
        else f'{args.encoder} alone: for features only'
    )
    print(
        f'{args.dst}: ViT of {backbone["depth"]} blocks x {backbone["embed_dim"]} with {backbone["num_heads"]} '
        f'heads, patch {backbone["patch_size"]}, {backbone["img_size"]} px, {rest}'
        f'\nUse it: mmmim.get_model({args.dst!r})'
    )


if __name__ == '__main__':
    main()
