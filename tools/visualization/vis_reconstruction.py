#!/usr/bin/env python
"""Show what a model with pixel targets reconstructs from the visible patches (MAE, figure 2).

Images are resized at the shorter side (bicubic, antialiased) and cropped to the central square, of the size that the
model is trained on.
"""

import argparse
import os

from mmmim.cli.arguments import COUNT, INNER_SHARE, SEED, add_checkpoint_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_checkpoint_options(parser)
    parser.add_argument('images', nargs='+', metavar='IMAGES', help='image files, or folders of images')
    parser.add_argument(
        'checkpoint',
        metavar='CKPT',
        help='checkpoint of a model with a pixel branch, such as MAE, or a name of published weights; a config or its '
        'name: random weights',
    )
    parser.add_argument(
        '--mask-ratio', type=INNER_SHARE, default=0.75, help='share of the patches that are masked (0.75)'
    )
    parser.add_argument('--seed', type=SEED, default=0, help='of the masks (default: 0)')
    parser.add_argument(
        '--max-images', type=COUNT, default=8, help='of more images, so many spread evenly are shown (default: 8)'
    )
    parser.add_argument('--device', help='default: cuda if there is a GPU')
    parser.add_argument(
        '--out', default='work_dirs/vis_reconstruction', help='folder, or a file .png (default: %(default)s)'
    )
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    import torch

    from mmmim.apis.models import model_config
    from mmmim.checkpoints import trusting
    from mmmim.cli.inputs import find_images, is_random, model_title, pick_device
    from mmmim.converters.published import find_weights
    from mmmim.datasets.masking import UniformMasking
    from mmmim.datasets.squares import read_square
    from mmmim.utils import InputError
    from mmmim.utils.names import printable
    from mmmim.utils.outputs import picture_files
    from mmmim.visualization.reconstruction import Reconstructor, draw_reconstructions

    (file,) = picture_files(args.out, ['reconstruction.png'])
    paths = find_images(args.images, args.max_images)
    with trusting(args.trust_checkpoint):
        checkpoint, library = find_weights(args.checkpoint)
    if library is not None:
        raise InputError(
            f'{args.checkpoint} is an encoder of {library.partition(":")[0]}, which predicts no pixels: give a '
            'checkpoint of mmmim with its decoder, such as one of MAE.'
        )
    torch.manual_seed(args.seed)  # of random weights
    if is_random(args.checkpoint):
        model = Reconstructor(model_config(args.checkpoint), None, args.checkpoint)
    else:
        model = Reconstructor.from_checkpoint(checkpoint, args.trust_checkpoint)
    model.to(pick_device(args.device))
    side = max(model.grid)
    mask = UniformMasking(args.mask_ratio)(len(paths), (side, side), torch.Generator().manual_seed(args.seed))
    pieces = []
    for i, path in enumerate(paths):
        image = torch.from_numpy(
            read_square(path, side * model.patch_size, model.channels, model.preprocessor.window).copy()
        )
        pieces.append(model(image.permute(2, 0, 1).unsqueeze(0), mask.images(i, i + 1, len(paths))))
        print(f'[{i + 1}/{len(paths)}] {printable(path)}', flush=True)
    pictures = {key: torch.cat([piece[key] for piece in pieces]) for key in pieces[0]}

    os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
    names = [os.path.basename(path) for path in paths]
    title = f'{model_title(args)}, {args.mask_ratio:.0%} masked'
    draw_reconstructions(pictures, names, file, title, model.normalized, model.channels)
    print(f'Wrote {file}.')


if __name__ == '__main__':
    main()
