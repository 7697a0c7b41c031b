#!/usr/bin/env python
"""Count what a training config computes for an image: multiply-accumulates (MACs) and parameters, module by module.

Nothing is trained and no data are needed: masks are drawn by the config's own collate function for synthetic images. A
MAC is two of the FLOPs that torch counts: those of matrix products, convolutions and attention. Nothing is deducted for
stochastic depth.
"""

import argparse
from collections.abc import Sequence
from typing import Any

from mmmim.cli.arguments import NATURAL, add_cfg_options
from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--batch', type=int, default=2, help='images; counts are per image (default: 2)')
    parser.add_argument(
        '--depth',
        type=NATURAL,
        default=1,
        help='rows below those of the parts: 0 none, 1 their modules (default), 2, ...',
    )
    add_cfg_options(parser, 'model.backbone.img_size=448')
    return parser.parse_args()


def _number(value: float) -> str:
    """In millions, with as many decimals as tell parts from each other."""
    return f'{value / 1e6:,.2f}'


def _table(rows: Sequence[Any], total: float, images: int) -> str:
    from mmmim.utils.tables import markdown_table

    lines = []
    for row in rows:
        name = row.name.removeprefix(f'{row.part}.') if row.depth else row.name
        caller = f', for {row.caller}' if row.caller and not row.depth else ''
        share = f'{row.macs / total:.1%}' if total else ''
        calls, macs = str(row.calls), f'{row.macs / images / 1e9:.6f}'
        lines.append(['  ' * row.depth + name + caller, calls, macs, share, _number(row.parameters)])
    other = total - sum(row.macs for row in rows if not row.depth)
    if other:
        lines.append(['elsewhere', '', f'{other / images / 1e9:.6f}', f'{other / total:.1%}', ''])
    lines.append(['all', '', f'{total / images / 1e9:.6f}', '', ''])
    return markdown_table(['module', 'calls', 'GMACs per image', 'share', 'M parameters'], lines)


def report(name: str, costs: Any) -> str:
    """The counts as text."""
    masks, images = costs.mask, costs.images
    per_image = f', {masks.num_masks // images} masks per image' if masks.num_masks > images else ''
    blocks = f'{masks.predict.shape[1]} x ' if masks.predict.shape[1] > 1 else ''
    return '\n'.join(
        [
            name,
            f'Multiply-accumulates (MACs, half of the FLOPs) per image, counted over {images} images',
            '',
            f'Training, forward: {costs.size[0]} x {costs.size[1]} pixels, {masks.visible.shape[1]} of '
            f'{masks.grid[0] * masks.grid[1]} patches visible, {blocks}{masks.predict.shape[-1]} predicted{per_image}',
            '',
            _table(costs.training, costs.training_macs, images),
            '',
            f'Training step, forward and backward: {costs.step_macs / images / 1e9:.6f} GMACs per image, '
            f'{costs.step_macs / costs.training_macs:.2f} times the forward passes',
            '',
            f'Inference: encoder, whole image of {costs.inference_size[0]} x {costs.inference_size[1]} pixels',
            '',
            _table(costs.inference, costs.inference_macs, images),
            '',
            f'M parameters: {_number(costs.trained)} trained, of which {_number(costs.kept)} are kept and '
            f'{_number(costs.trained - costs.kept)} discarded after pre-training; the teacher holds copies of '
            f'{_number(costs.teacher)}',
        ]
    )


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from mmmim.config.cfg_options import merge_cfg_options
    from mmmim.config.read import load_config
    from mmmim.cost.flops import count_config
    from mmmim.utils import InputError

    for option, least in (('batch', 1), ('depth', 0)):
        if getattr(args, option) < least:
            raise InputError(f'--{option} must be at least {least}, got {getattr(args, option)}.')
    cfg = load_config(args.config)
    merge_cfg_options(cfg, args.cfg_options)
    print(report(' '.join([args.config, *args.cfg_options]), count_config(cfg, args.batch, args.depth)))


if __name__ == '__main__':
    main()
