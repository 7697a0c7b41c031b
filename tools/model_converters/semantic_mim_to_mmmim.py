"""Convert a training checkpoint of SemanticMIM's plug-in for mmpretrain (BEiT or MaskFeat) to mmmim's format."""

import argparse

from mmmim.cli.arguments import converter_parser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line options."""
    return converter_parser(
        __doc__,
        'file with the encoder and the blocks beside it, e.g. epoch_300.pth',
        'of all blocks',
        decoder_heads=None,
    ).parse_args()


@user_errors()
def main() -> None:
    """Convert and say what the model is."""
    args = parse_args()

    from mmmim.checkpoints import load_checkpoint_file, save_checkpoint_file
    from mmmim.converters.semantic_mim import convert_checkpoint

    checkpoint = load_checkpoint_file(args.src, trust=args.trust_checkpoint)
    converted = convert_checkpoint(checkpoint, args.src, args.num_heads)
    save_checkpoint_file(converted, args.dst)
    backbone = converted['mmmim']['model']['backbone']
    branch = converted['mmmim']['model']['branches']['semantic']
    print(
        f'{args.dst}: ViT of {backbone["depth"]} blocks x {backbone["embed_dim"]} with {backbone["num_heads"]} '
        f'heads, patch {backbone["patch_size"]}, {backbone["img_size"]} px, {backbone["num_cls_tokens"]} proxies; '
        f'{branch["neck"]["depth"]} blocks beside it, {branch["neck"]["out_dim"]} outputs for '
        f'{branch["target_generator"]["type"]}\nUse it: mmmim.get_model({args.dst!r})'
    )


if __name__ == '__main__':
    main()
