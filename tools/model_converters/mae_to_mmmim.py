"""Convert weights of MAE, in the layout of its authors or of mmpretrain, to mmmim's format."""

import argparse


def parse_args() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='file with or without the decoder, e.g. mae_pretrain_vit_base.pth')
    parser.add_argument('dst', help='file to write')
    parser.add_argument(
        '--num-heads', type=int, help='of the encoder, which weights do not tell; default: 64 channels each (ViT-H: 80)'
    )
    parser.add_argument('--decoder-num-heads', type=int, default=16, help='of the decoder; default: 16')
    parser.add_argument(
        '--raw-pixels', action='store_true', help='the model was trained on raw, not on normalised pixels'
    )
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also read files that hold Python objects, as training checkpoints do; loading them can run any code',
    )
    return parser.parse_args()


def main() -> None:
    """Convert and say what the model is."""
    args = parse_args()

    from mmmim.converters.mae import convert_checkpoint
    from mmmim.utils.checkpoint import load_checkpoint_file, save_checkpoint_file
    from mmmim.utils.cli import user_errors

    with user_errors():
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
