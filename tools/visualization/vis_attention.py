#!/usr/bin/env python
"""Show what tokens of an encoder attend to (SemanticMIM, arXiv 2406.10673, figures 1, 7, 9 and 14).

Images are resized to a square, whatever their aspect ratio is. Written are queries.png (patches named by --query, and
with --mean all of them), extra_tokens.png (with --extra-tokens: CLS, proxies, registers) and averaged.png (with
--averaged: extra tokens, their maps averaged over a folder).
"""

import argparse
import os
from typing import Any

from mmmim.cli.arguments import CHECKPOINT, COUNT, add_model_options, argument
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors
from mmmim.utils.options import PositiveShare
from mmmim.utils.progress import progress


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_options(parser)
    parser.add_argument('checkpoint', metavar='CKPT', help=CHECKPOINT)
    parser.add_argument('images', nargs='*', metavar='IMAGES', help='image files, or folders of images')
    parser.add_argument(
        '--layers',
        nargs='+',
        default=['-1'],
        metavar='BLOCK',
        help="blocks, from 0, negative from the end, or 'all' (default: -1)",
    )
    parser.add_argument(
        '--query',
        type=int,
        nargs=2,
        action='append',
        metavar=('ROW', 'COLUMN'),
        help='a patch, from 0; may be given several times (default: the middle, unless --extra-tokens or --mean)',
    )
    parser.add_argument('--heads', default='mean', choices=['mean', 'each'], help='mean over the heads (default)')
    parser.add_argument('--extra-tokens', action='store_true', help='also what CLS, proxies and registers attend to')
    parser.add_argument(
        '--mean', action='store_true', help='also what all patches attend to, their mean: for encoders without CLS'
    )
    parser.add_argument(
        '--mass',
        type=argument(PositiveShare, float),
        metavar='SHARE',
        help='show only the patches that hold this share of the attention, 0.6 in DINO',
    )
    parser.add_argument(
        '--subtract-extra', action='store_true', help='subtract the mean map of the extra tokens from those of patches'
    )
    parser.add_argument('--averaged', metavar='FOLDER', help='maps of the extra tokens, averaged over its images')
    parser.add_argument(
        '--size', type=COUNT, help="side of the square images, 480 in the paper (default: the training's)"
    )
    parser.add_argument(
        '--max-images', type=COUNT, default=8, help='of more IMAGES, so many spread evenly are shown (default: 8)'
    )
    parser.add_argument(
        '--max-averaged', type=COUNT, default=500, help='of more in FOLDER, so many are averaged (default: 500)'
    )
    parser.add_argument(
        '--out', default='work_dirs/vis_attention', help='folder, or a file .png of one picture (default: %(default)s)'
    )
    return parser.parse_intermixed_args()  # IMAGES may stand after options


def chosen_layers(texts: list[str], depth: int) -> list[int]:
    """Blocks of ``--layers``, from the first to the last, each once.

    Raises:
        InputError: Not a number, or no such block.
    """
    from mmmim.models.layers import layer_index
    from mmmim.utils import InputError

    if texts == ['all']:
        return list(range(depth))
    try:
        numbers = [int(text) for text in texts]
    except ValueError:
        raise InputError(f"--layers {' '.join(texts)}: give numbers of blocks, or 'all' alone.") from None
    return sorted({layer_index(number, depth) for number in numbers})


def pictures(args: argparse.Namespace) -> list[str]:
    """Names of the pictures that a command line asks for."""
    names = ['queries.png'] * bool(args.images and (args.query or args.mean or not args.extra_tokens))
    names += ['extra_tokens.png'] * bool(args.images and args.extra_tokens)
    return names + ['averaged.png'] * (args.averaged is not None)


def check_memory(extractor: Any, patches: int, size: int) -> None:
    """Say how many tokens attend to each other, and refuse what the machine cannot hold.

    Raises:
        InputError: The attention of one block needs more memory than there is.
    """
    import torch

    from mmmim.features.attention_maps import number_of_heads, self_attentions
    from mmmim.utils import InputError
    from mmmim.utils.machine import gigabytes, physical_memory

    device = next(extractor.parameters()).device
    heads = max(map(number_of_heads, self_attentions(extractor.backbone)))
    tokens = patches + extractor.backbone.num_extra_tokens
    # Products, scaled products and weights of all pairs in fp32 are there at once.
    needed = 3 * 4 * heads * tokens**2
    there = torch.cuda.get_device_properties(device).total_memory if device.type == 'cuda' else physical_memory()
    print(f'{tokens} tokens of {size} px in {heads} heads: {gigabytes(needed)} for a block.', flush=True)
    if there is not None and needed > there:
        raise InputError(
            f'The attention of {tokens} tokens of {size} px needs {gigabytes(needed)}, and there are '
            f'{gigabytes(there)}: give a smaller --size (trained with {extractor.image_size}).'
        )


class Drawing:
    """What the pictures of a command line share."""

    def __init__(self, args: argparse.Namespace, files: dict[str, str]) -> None:
        from mmmim.cli.inputs import fitting_size, load_model, model_title
        from mmmim.features.attention_maps import self_attentions

        self.args, self.files = args, files
        self.extractor = load_model(args)
        self.layers = chosen_layers(args.layers, len(self_attentions(self.extractor.backbone)))
        self.size = fitting_size(args.size or self.extractor.image_size, self.extractor)
        self.grid = (self.size // self.extractor.patch_size,) * 2
        check_memory(self.extractor, self.grid[0] ** 2, self.size)
        self.model = model_title(args)

    def extra(self) -> list[Any]:
        """The extra tokens."""
        from mmmim.visualization.attention import extra_queries

        backbone = self.extractor.backbone
        return extra_queries(backbone.num_cls_tokens, backbone.num_extra_tokens)

    def maps(self, path: str, queries: list[Any], subtract: bool = False) -> tuple[Any, Any]:
        """An image as a picture and the maps of its tokens."""
        import torch

        from mmmim.datasets.squares import read_stretched
        from mmmim.visualization.attention import image_maps, only_strongest
        from mmmim.visualization.feature_pictures import picture

        image = read_stretched(path, self.size, self.extractor.in_channels, self.extractor.window)
        shown = picture(torch.from_numpy(image.copy()).permute(2, 0, 1), self.extractor.preprocessor)
        maps = image_maps(self.extractor, image, queries, self.layers, self.args.heads, subtract)
        return shown, maps if self.args.mass is None else only_strongest(maps, self.args.mass)

    def draw(self, file: str, examples: list[Any], queries: list[Any], what: str, signed: bool = False) -> None:
        """Write a picture."""
        from mmmim.visualization.attention import draw_attention

        path = self.files[file]
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        if self.args.mass is not None:
            what += f', the patches that hold {self.args.mass:.0%}'
        draw_attention(examples, queries, self.layers, path, f'{what}: {self.model}, {self.size} px', signed)
        print(f'Wrote {path}.')

    def images(self, paths: list[str]) -> None:
        """``queries.png`` and ``extra_tokens.png``."""
        from mmmim.visualization.attention import MEAN, patch_queries

        args, middle = self.args, [side // 2 for side in self.grid]
        places = args.query or ([] if args.extra_tokens or args.mean else [middle])
        patches = [*patch_queries(places, self.grid), *[MEAN] * args.mean]
        extra = self.extra() if args.extra_tokens or args.subtract_extra else []
        parts = [('queries.png', patches, args.subtract_extra, 'Attention of patches')]
        if args.extra_tokens:
            parts.append(('extra_tokens.png', extra, False, 'Attention of extra tokens'))
        for file, queries, signed, what in parts:
            if queries:
                examples = [(os.path.basename(p), *self.maps(p, queries, signed)) for p in progress(paths, 'images')]
                self.draw(file, examples, queries, what, signed)

    def averaged(self, paths: list[str]) -> None:
        """``averaged.png``."""
        import numpy as np

        queries, image, maps = self.extra(), 0, 0
        for path in progress(paths, 'images'):
            one_image, one = self.maps(path, queries)
            image, maps = image + one_image.astype(np.float64) / len(paths), maps + one / len(paths)
        example = (f'mean of {len(paths)}', image.round().astype(np.uint8), maps)
        self.draw('averaged.png', [example], queries, f'Attention of extra tokens, mean over {len(paths)} images')


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from mmmim.cli.inputs import find_images
    from mmmim.utils import InputError
    from mmmim.utils.outputs import picture_files

    if not args.images and args.averaged is None:
        raise InputError('Nothing to look at: give IMAGES, or --averaged FOLDER.')
    if args.size is not None and args.size < 1:
        raise InputError(f'--size {args.size}: give a number of pixels of 1 or more.')
    if args.mass is not None and args.subtract_extra:
        raise InputError('--mass is of attention, and --subtract-extra shows differences: give one of them.')
    names = pictures(args)
    files = dict(zip(names, picture_files(args.out, names), strict=True))
    images = find_images(args.images, args.max_images)
    averaged = [] if args.averaged is None else find_images([args.averaged], args.max_averaged)
    drawing = Drawing(args, files)
    if images:
        drawing.images(images)
    if averaged:
        drawing.averaged(averaged)


if __name__ == '__main__':
    main()
