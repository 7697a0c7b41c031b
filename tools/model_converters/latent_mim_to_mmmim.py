"""Convert a training checkpoint of Latent MIM's authors to mmmim's format."""

import argparse

from mmmim.cli.arguments import converter_parser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line options."""
    return converter_parser(
        __doc__, 'file with or without target encoder and decoder, e.g. checkpoint_0800.pth', 'of the encoders'
    ).parse_args()


@user_errors()
def main() -> None:
    """Convert and say what the model is."""
    args = parse_args()

    from mmmim.checkpoints import load_checkpoint_file, save_checkpoint_file
    from mmmim.converters.latent_mim import NECK, convert_checkpoint

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
