"""I-JEPA (arXiv 2301.08243): appendix A, and the released configs for ViT-H and for what the paper leaves out."""

from tests.recipes import recipe, row, steps

PIPELINE = 'train_dataloader.dataset.dataset.pipeline'
BRANCH = 'model.branches.latent'
CROP = f'{PIPELINE}.1'

VITB16 = recipe(
    row('appendix A.1: batch size', global_batch_size=2048),
    row('appendix A.1: 600 epochs of 625 iterations', train_cfg=dict(max_iters=600 * 625)),
    row(
        'appendix A.1: AdamW, learning rate, weight decay 0.04 to 0.4; released configs: betas, bfloat16',
        'optim_wrapper',
        dtype='bfloat16',
        optimizer=dict(type='mmengine.AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.4),
    ),
    row(
        'released code: biases and norms do not decay',
        'optim_wrapper.paramwise_cfg.rules.no_decay',
        match=r'bias$|norm\w*\.weight$',
        decay_mult=0.0,
    ),
    row(
        'appendix A.1: 15 epochs from 1e-4 to 1e-3, then a cosine to 1e-6; released code: the first step is step 1',
        'param_scheduler.lr.schedule',
        type='mmmim.warmup_cosine',
        start=0.1,
        base=1.0,
        final=1e-3,
        warmup_ratio=15 / 600,
        first=1,
    ),
    row(
        'appendix A.1: from 0.04 to 0.4; released code: by a cosine',
        'param_scheduler.weight_decay.schedule',
        type='mmmim.cosine',
        start=0.04 / 0.4,
        final=1.0,
        first=1,
    ),
    row(
        'appendix A.1: momentum from 0.996 to 1, linearly',
        'default_hooks.target_ema.momentum',
        type='mmmim.linear',
        start=0.996,
        final=1.0,
    ),
    row(
        'section 4: ViT-B/16 at 224 px without CLS; released code: initialisation',
        'model.backbone',
        type='mmmim.ViT',
        img_size=224,
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        num_cls_tokens=0,
        init='trunc_normal',
    ),
    row(
        'section 3; released code: targets are layer-normed',
        f'{BRANCH}.target_generator',
        type='mmmim.LatentTarget',
        in_dim=768,
        normalize='layer',
    ),
    row(
        'appendix A.1: 6 blocks of width 384 with the heads of the encoder',
        f'{BRANCH}.neck',
        type='mmmim.SelfAttentionPredictor',
        context_dim=768,
        embed_dim=384,
        depth=6,
        num_heads=12,
        out_dim=768,
        grid=(14, 14),
        init='trunc_normal',
    ),
    row('released code: smooth L1 (paper: squared error)', f'{BRANCH}.head', type='mmmim.RegressionHead', loss='huber'),
    row('section 3: the target encoder', 'model', teacher=['backbone']),
    row('section 4: patches', 'train_dataloader.collate_fn', patch_size=16),
    row(
        'appendix A.1: masks',
        'train_dataloader.collate_fn.masking',
        type='mmmim.MultiBlockMasking',
        num_targets=4,
        target_scale=(0.15, 0.2),
        target_aspect=(0.75, 1.5),
        num_contexts=1,
        context_scale=(0.85, 1.0),
    ),
    row('released configs', 'train_dataloader.collate_fn.masking', min_keep=10),
    row('section 4', 'train_dataloader.dataset.dataset', type='mmmim.ImageFolder', data_root='data/imagenet/train'),
    steps(
        'released configs: crops and no flip',
        PIPELINE,
        'mmmim.LoadImage',
        'mmmim.RandomResizedCrop',
        'mmpretrain.PackInputs',
    ),
    row('released configs: crops and no flip', CROP, scale=224, crop_ratio_range=(0.3, 1.0), interpolation='bilinear'),
)


def sizes(source: str, width: int, depth: int, heads: int, patch: int, image: int) -> dict:
    """Of the encoder, and of a predictor of 12 blocks."""
    grid = (image // patch, image // patch)
    return recipe(
        row(source, 'model.backbone', embed_dim=width, depth=depth, num_heads=heads, patch_size=patch, img_size=image),
        row(source, f'{BRANCH}.target_generator', in_dim=width),
        row(source, f'{BRANCH}.neck', context_dim=width, out_dim=width, num_heads=heads, depth=12, grid=grid),
        row(source, 'train_dataloader.collate_fn', patch_size=patch),
        row(source, CROP, scale=image),
    )


VITH14 = recipe(
    sizes('released config in1k_vith14_ep300', 1280, 32, 16, 14, 224),
    row('released config: 300 epochs of 625 iterations', train_cfg=dict(max_iters=300 * 625)),
    row('released config: 40 epochs from 2e-4', 'param_scheduler.lr.schedule', start=0.2, warmup_ratio=40 / 300),
    base=VITB16,
)

RECIPES = {
    'ijepa/vitb16': VITB16,
    'ijepa/vitl16': recipe(sizes('appendix A.1', 1024, 24, 16, 16, 224), base=VITB16),
    'ijepa/vith14': VITH14,
    'ijepa/vith16_448': recipe(sizes('released config in1k_vith16-448_ep300', 1280, 32, 16, 16, 448), base=VITH14),
}
