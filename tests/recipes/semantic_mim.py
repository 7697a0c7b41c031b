"""SemanticMIM (arXiv 2406.10673): BEiT and MaskFeat, with and without proxies; combinations of our own."""

from tests.recipes import recipe, row, steps, without
from tests.recipes.capi import RECIPES as CAPI
from tests.recipes.mae import VITB16 as MAE

PIPELINE = 'train_dataloader.dataset.dataset.pipeline'
COLLATE = 'train_dataloader.collate_fn'
TOKENS, HOG, SEMANTIC = 'model.branches.tokens', 'model.branches.hog', 'model.branches.semantic'
CROP = f'{PIPELINE}.1'


def visible(source: str, number: int) -> dict:
    """Of 196 patches, at random."""
    return row(source, f'{COLLATE}.masking', type='mmmim.UniformMasking', num_visible=number)


SHARED = recipe(
    row('table 2', global_batch_size=2048),
    row('section 4.1: 300 epochs of 625 iterations', train_cfg=dict(max_iters=300 * 625)),
    row(
        'table 2: Adam; float16 in the released code, bfloat16 here',
        'optim_wrapper',
        dtype='bfloat16',
        optimizer=dict(type='mmengine.AdamW', betas=(0.9, 0.999), weight_decay=0.05),
    ),
    row('table 2: cosine', 'param_scheduler.schedule', type='mmmim.truncated_cosine', truncation=1.0),
    row(
        'section 4.1: ViT-B/16 at 224 px; released code: learned positions, also of CLS; baselines see mask tokens',
        'model.backbone',
        type='mmmim.ViT',
        img_size=224,
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        positions='learnable',
        extra_positions=True,
        fused=True,
    ),
    row('section 4.1', COLLATE, patch_size=16),
    visible('section 4.1: baselines mask 40 %', 117),
    row('section 4.1', 'train_dataloader.dataset.dataset', type='mmmim.ImageFolder', data_root='data/imagenet/train'),
    row('section 4.1; released code: bicubic', CROP, scale=224, interpolation='bicubic'),
    row('table 2: flips', f'{PIPELINE}.2', prob=0.5),
)

BEIT = recipe(
    row('table 2: peak learning rate', 'optim_wrapper.optimizer', lr=1.5e-3),
    row('table 2: gradient clipping', 'optim_wrapper', clip_norm=3.0),
    row(
        'table 2: 10 epochs of warm-up, minimum 1e-5; released code: from 1e-4 of the peak',
        'param_scheduler.schedule',
        start=1e-4,
        final=1e-5 / 1.5e-3,
        warmup_ratio=10 / 300,
    ),
    row(
        'released code: of the learned vectors only the mask token decays',
        'optim_wrapper.paramwise_cfg.rules.no_decay',
        match=r'\.bias$|norm\d?\.weight$|scale\d\.weight$|extra_tokens$|positions\.',
        decay_mult=0.0,
    ),
    row('table 2: stochastic depth; released code: growing', 'model.backbone', drop_path_rate=(0.0, 0.1)),
    row(
        'released code: biases of q and v, layer scale, initialisation',
        'model.backbone',
        qkv_bias='qv',
        layer_scale=0.1,
        init='trunc_normal_rescaled',
    ),
    row('section 3.3: tokens of DALL-E', f'{TOKENS}.target_generator', type='mmmim.TokenizerTarget', patch_size=16),
    row('section 3.3', f'{TOKENS}.target_generator.tokenizer', type='mmmim.DalleTokenizer', num_tokens=8192),
    row(
        'section 3.3', f'{TOKENS}.neck', type='mmmim.PickPredicted', context_dim=768, out_dim=8192, init='trunc_normal'
    ),
    row('section 3.3: cross-entropy', f'{TOKENS}.head', type='mmmim.CrossEntropyHead'),
    steps(
        'table 2: crops, flips, colour jitter',
        PIPELINE,
        'mmmim.LoadImage',
        'mmmim.RandomResizedCrop',
        'mmpretrain.RandomFlip',
        'mmpretrain.ColorJitter',
        'mmpretrain.PackInputs',
    ),
    row('table 2: crop ratio', CROP, crop_ratio_range=(0.08, 1.0)),
    row('table 2: colour jitter', f'{PIPELINE}.3', brightness=0.4, contrast=0.4, saturation=0.4),
    base=SHARED,
)

MASKFEAT = recipe(
    row('table 2: peak learning rate', 'optim_wrapper.optimizer', lr=1.6e-3),
    row('table 2: gradient clipping', 'optim_wrapper', clip_norm=0.02),
    row(
        'table 2: 30 epochs of warm-up, minimum 1e-6; released code: from 1e-6 of the peak',
        'param_scheduler.schedule',
        start=1e-6,
        final=1e-6 / 1.6e-3,
        warmup_ratio=30 / 300,
    ),
    row(
        'released code: CLS and positions decay, the mask token does not',
        'optim_wrapper.paramwise_cfg.rules.no_decay',
        match=r'\.bias$|norm\d?\.weight$|mask_token$',
        decay_mult=0.0,
    ),
    row('released code', 'model.backbone', init='trunc_normal'),
    row('section 3.3: histograms', f'{HOG}.target_generator', type='mmmim.HOGTarget', patch_size=16),
    row('section 3.3', f'{HOG}.neck', type='mmmim.PickPredicted', context_dim=768, out_dim=108, init='trunc_normal'),
    row('released code: squared error', f'{HOG}.head', type='mmmim.RegressionHead'),
    steps(
        'table 2: crops and flips',
        PIPELINE,
        'mmmim.LoadImage',
        'mmmim.RandomResizedCrop',
        'mmpretrain.RandomFlip',
        'mmpretrain.PackInputs',
    ),
    row('table 2: crop ratio', CROP, crop_ratio_range=(0.5, 1.0)),
    base=SHARED,
)


def with_proxies(base: dict, branch: str, neck: dict) -> dict:
    """A baseline whose encoder sees 8 proxies and the visible patches, with a block for mask tokens beside each."""
    moved = {
        key.replace(branch, SEMANTIC): value
        for key, value in base.items()
        if key.startswith((f'{branch}.t', f'{branch}.h'))
    }
    return recipe(
        moved,
        row('section 4.1: 8 proxies', 'model.backbone', num_cls_tokens=8),
        row('equation 3: the encoder sees no mask tokens', 'model.backbone', fused=False, final_norm=False),
        row(
            'equations 3 and 4: a block beside each of the encoder',
            f'{SEMANTIC}.neck',
            type='mmmim.ProxyReconstruction',
            context_dim=768,
            depth=12,
            num_heads=12,
        ),
        neck,
        visible('section 4.1: 60 % masked', 78),
        base=without(base, branch),
    )


SEMANTIC_BEIT = with_proxies(
    BEIT,
    TOKENS,
    row(
        'blocks of the encoder',
        f'{SEMANTIC}.neck',
        out_dim=8192,
        qkv_bias='qv',
        layer_scale=0.1,
        init='trunc_normal_rescaled',
        drop_path_rate=(0.0, 0.1),
    ),
)
SEMANTIC_MASKFEAT = with_proxies(
    MASKFEAT, HOG, row('blocks of the encoder', f'{SEMANTIC}.neck', out_dim=108, init='trunc_normal')
)

OURS = 'a combination of our own'
RECIPES = {
    'beit/vitb16': BEIT,
    'maskfeat/vitb16': MASKFEAT,
    'semantic_mim/beit_vitb16': SEMANTIC_BEIT,
    'semantic_mim/maskfeat_vitb16': SEMANTIC_MASKFEAT,
    'semantic_mim/mae_vitb16_proxy': recipe(
        row(OURS, 'model.backbone', num_cls_tokens=8, final_norm=False),
        row(
            OURS,
            'model.branches.pixels.neck',
            type='mmmim.ProxyReconstruction',
            context_dim=768,
            depth=12,
            num_heads=12,
            out_dim=768,
            init='mae',
        ),
        visible(OURS, 78),
        base=without(MAE, 'model.branches.pixels.neck', f'{COLLATE}.masking'),
    ),
    'semantic_mim/capi_vitb14_proxy': recipe(
        row(OURS, 'model.backbone', num_cls_tokens=8, num_registers=0),
        row(OURS, 'model', teacher=['backbone']),
        row(
            OURS,
            'model.branches.capi.neck',
            type='mmmim.ProxyReconstruction',
            context_dim=768,
            depth=12,
            num_heads=12,
            positions='rope',
            norm='rms',
            norm_eps=1e-5,
            final_affine=False,
            bias=False,
            qkv_bias=False,
            init='capi',
            drop_path_rate=0.2,
        ),
        base=without(CAPI['capi/vitb14'], 'model.branches.capi.neck'),
    ),
    **{
        f'semantic_mim/ablations/proxies_{number}': recipe(
            row('figure 5', 'model.backbone', num_cls_tokens=number), base=SEMANTIC_BEIT
        )
        for number in (1, 2, 4, 16, 32, 64)
    },
    **{
        f'semantic_mim/ablations/ratio_{ratio}': recipe(visible('figure 6', number), base=SEMANTIC_BEIT)
        for ratio, number in ((40, 117), (50, 98), (70, 58), (75, 49), (80, 39))
    },
}
