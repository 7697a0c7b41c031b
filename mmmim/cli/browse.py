"""Draw what a training sees before its first step: augmented images, masks, targets and predictions of a batch."""

from __future__ import annotations

from collections.abc import Sequence

from .arguments import COUNT, SEED, add_cfg_options
from .parser import ToolParser
from .program import user_errors


def build_parser() -> ToolParser:
    """The command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('config', help='config of a pre-training, or its name')
    parser.add_argument('--images', type=COUNT, default=6, help='images that are drawn (default: %(default)s)')
    parser.add_argument('--seed', type=SEED, default=0, help='of images, crops and masks (default: %(default)s)')
    parser.add_argument(
        '--out', default='work_dirs/browse', help='folder, or a file .png (default: %(default)s/NAME.png)'
    )
    add_cfg_options(parser, 'train_dataloader.collate_fn.masking.mask_ratio=0.5')
    return parser


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Draw.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    args = build_parser().parse_args(argv)

    import os

    import torch
    from mmengine.registry import init_default_scope
    from mmengine.runner import set_random_seed

    from mmmim.config.cfg_options import merge_cfg_options
    from mmmim.config.read import load_config
    from mmmim.engine import Runner
    from mmmim.models.algorithms.masked_image_modeling import MaskedImageModeling
    from mmmim.registry import MODELS
    from mmmim.utils import InputError
    from mmmim.utils.internals import quiet_initialisation
    from mmmim.utils.outputs import picture_files
    from mmmim.visualization.batches import draw_batch
    from mmmim.visualization.image_table import draw_image_table

    cfg = load_config(args.config)
    merge_cfg_options(cfg, args.cfg_options)
    if cfg.get('train_dataloader') is None or cfg.get('model') is None:
        raise InputError(f'{args.config} has no model and train_dataloader: give the config of a pre-training.')
    name = os.path.splitext(os.path.basename(args.config))[0]
    (file,) = picture_files(args.out, [f'{name}.png'])
    init_default_scope('mmmim')
    set_random_seed(args.seed)
    loader = {**cfg.train_dataloader, 'batch_size': args.images, 'num_workers': 0, 'persistent_workers': False}
    batch = next(iter(Runner.build_dataloader(loader, seed=args.seed)))
    model = MODELS.build(cfg.model)
    if not isinstance(model, MaskedImageModeling) or 'mask' not in batch:
        raise InputError(f'{args.config} trains a {type(model).__name__}, which has no masks: nothing to browse.')
    with quiet_initialisation(model):
        model.init_weights()
    model.eval()
    images = model.data_preprocessor.rgb(torch.stack(list(batch['inputs'])))
    second = None if batch.get('second') is None else model.data_preprocessor.rgb(batch['second'])
    pictures = draw_batch(model, images, batch['mask'], second)
    paths = [sample.get('img_path', '') for sample in batch.get('data_samples') or [None] * len(images)]
    index = batch['mask'].image_index.tolist()
    rows = [[picture[g].numpy() for picture in pictures.values()] for g in range(len(index))]
    names = [os.path.basename(str(paths[i])) for i in index]
    os.makedirs(os.path.dirname(os.path.abspath(file)), exist_ok=True)
    caption = (
        'Images after augmentation; what the encoder sees of them; patches to predict, others dark; targets and, where '
        'they compare, predictions of the untrained model: pixels, a colour for each token or prototype, or principal '
        'components.'
    )
    draw_image_table(rows, file, list(pictures), names, f'{args.config}: a batch', caption)
    print(f'Wrote {file}.')
