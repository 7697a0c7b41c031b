"""Convert a training checkpoint of Latent MIM's authors to mmmim's format."""

import argparse


def parse_args() -> argparse.Namespace:
    """Command line options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='file with or without target encoder and decoder, e.g. checkpoint_0800.pth')
    parser.add_argument('dst', help='file to write')
    parser.add_argument(
        '--num-heads',
        type=int,
        help='of the encoders, which weights do not tell; default: 64 channels each (width 1280: 80)',
    )
    parser.add_argument('--decoder-num-heads', type=int, default=16, help='of the decoder; default: 16')
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also read files that hold Python objects, as training checkpoints do; loading them can run any code',
    )
    return parser.parse_args()


def main() -> None:
    """Convert and say what the model is."""
    args = parse_args()

    from mmmim.converters.latent_mim import NECK, convert_checkpoint
    from mmmim.utils.checkpoint import load_checkpoint_file, save_checkpoint_file
    from mmmim.utils.cli import user_errors

    with user_errors():
        checkpoint = load_checkpoint_file(args.src, trust=args.trust_checkpoint)
        converted = convert_checkpoint(checkpoint, args.src, args.num_heads, args.decoder_num_heads)
        save_checkpoint_file(converted, args.dst)
        keys = converted['state_dict']
        backbone = converted['mmmim']['model']['backbone']
        neck = converted['mmmim']['model']['branches']['latent']['neck']
        target = 'with' if any(key.startswith('teacher.') for key in keys) else 'without'
        decoder = (
            f'decoder of {neck["depth"]} blocks x {neck["embed_dim"]} with {neck["num_heads"]} heads'
            if any(key.startswith(NECK) for key in keys)
            else 'no decoder: for features only'
        )
        print(
            f'{args.dst}: ViT of {backbone["depth"]} blocks x {backbone["embed_dim"]} with {backbone["num_heads"]} '
            f'heads, patch {backbone["patch_size"]}, {backbone["img_size"]} px, {target} its target encoder; {decoder}'
            f'\nUse it: mmmim.get_model({args.dst!r})'
        )


if __name__ == '__main__':
    main()
