"""MAE (arXiv 2111.06377), and BootMAE (arXiv 2207.07116), which starts from it."""

from tests.recipes import recipe, row, steps

PIPELINE = 'train_dataloader.dataset.dataset.pipeline'
PIXELS, FEATURES = 'model.branches.pixels', 'model.branches.features'
CROP = f'{PIPELINE}.1'

VITB16 = recipe(
    row('table 8', global_batch_size=4096),
    row('table 1: 1600 epochs of 312 iterations', train_cfg=dict(max_iters=1600 * 312)),
    row(
        'table 8: AdamW, base lr 1.5e-4 for 256 images; bfloat16 here',
        'optim_wrapper',
        dtype='bfloat16',
        optimizer=dict(type='mmengine.AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05),
    ),
    row(
        'released code: biases and norms do not decay',
        'optim_wrapper.paramwise_cfg.rules.no_decay',
        match=r'\.bias$|norm\d?\.weight$',
        decay_mult=0.0,
    ),
    row(
        'table 8: 40 epochs of warm-up, a cosine',
        'param_scheduler.schedule',
        type='mmmim.truncated_cosine',
        warmup_ratio=40 / 1600,
        truncation=1.0,
    ),
    row(
        'appendix A.1: ViT-B/16 at 224 px',
        'model.backbone',
        type='mmmim.ViT',
        img_size=224,
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
    ),
    row('section 3: normalised pixels', f'{PIXELS}.target_generator', type='mmmim.PixelTarget', normalize=True),
    row('section 3: of a patch', f'{PIXELS}.target_generator', patch_size=16),
    row(
        'section 4.1: decoder of 8 blocks of width 512',
        f'{PIXELS}.neck',
        type='mmmim.SelfAttentionPredictor',
        context_dim=768,
        embed_dim=512,
        depth=8,
        num_heads=16,
        out_dim=768,
        grid=(14, 14),
    ),
    row('section 3: squared error', f'{PIXELS}.head', type='mmmim.RegressionHead'),
    row('appendix A.1', 'train_dataloader.collate_fn', patch_size=16),
    row(
        'section 4.1: 75 % masked', 'train_dataloader.collate_fn.masking', type='mmmim.UniformMasking', mask_ratio=0.75
    ),
    row('section 4', 'train_dataloader.dataset.dataset', type='mmmim.ImageFolder', data_root='data/imagenet/train'),
    steps(
        'table 8; released code: flips',
        PIPELINE,
        'mmmim.LoadImage',
        'mmmim.RandomResizedCrop',
        'mmpretrain.RandomFlip',
        'mmpretrain.PackInputs',
    ),
    row('table 8: RandomResizedCrop; released code: 20 %, bicubic', CROP, scale=224, crop_ratio_range=(0.2, 1.0)),
    row('released code', CROP, interpolation='bicubic'),
    row('released code: flips', f'{PIPELINE}.2', prob=0.5),
)


def decoder(branch: str, source: str, layer: int) -> dict:
    """Two blocks of cross-attention to the states of a block of the encoder."""
    return row(
        source,
        f'{branch}.neck',
        type='mmmim.FeatureInjectionDecoder',
        context_dim=768,
        embed_dim=512,
        depth=2,
        num_heads=16,
        layer=layer,
        grid=(14, 14),
    )


RECIPES = {
    'mae/vitb16': VITB16,
    'projects/bootmae/configs/vitb16': recipe(
        row('800 epochs of 312 iterations', train_cfg=dict(max_iters=800 * 312)),
        row('40 of 800 epochs', 'param_scheduler.schedule', warmup_ratio=40 / 800),
        row(
            'our reading: from 0.999 to 0.9999 in the first 100 epochs',
            'default_hooks.target_ema.momentum',
            type='mmmim.truncated_cosine',
            start=0.999,
            base=0.9999,
            final=0.9999,
            warmup_ratio=100 / 800,
        ),
        decoder(PIXELS, 'section 3: pixels from the first block', 0),
        decoder(FEATURES, 'section 3: features from the last block', -1),
        row(
            'our reading: layer-normed features of the momentum encoder',
            f'{FEATURES}.target_generator',
            type='mmmim.LatentTarget',
            in_dim=768,
            normalize='layer',
        ),
        row('section 3: squared error', f'{FEATURES}.head', type='mmmim.RegressionHead'),
        row('section 3: the momentum encoder', 'model', teacher=['backbone']),
        row('biases and norms', 'optim_wrapper.paramwise_cfg.rules.no_decay', match=r'\.bias$|norm\w*\.weight$'),
        base=VITB16,
    ),
}
