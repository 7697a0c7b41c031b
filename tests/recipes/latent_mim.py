"""Latent MIM (arXiv 2407.15837)."""

from tests.recipes import recipe, row, steps, without

PIPELINE = 'train_dataloader.dataset.dataset.pipeline'
BRANCH = 'model.branches.latent'
COLLATE = 'train_dataloader.collate_fn'
CROP = f'{PIPELINE}.1'

VITB16 = recipe(
    row('table 8(a)', global_batch_size=4096),
    row('table 8(a): 800 epochs of 312 iterations', train_cfg=dict(max_iters=800 * 312)),
    row(
        'table 8(a): AdamW, base lr 1.5e-4 for 256 images; float16 in the released code, bfloat16 here',
        'optim_wrapper',
        dtype='bfloat16',
        optimizer=dict(type='mmengine.AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05),
    ),
    row(
        'released code: biases, norms and embeddings do not decay',
        'optim_wrapper.paramwise_cfg.rules.no_decay',
        match=r'bias$|norm\w*\.|\.embed\.|patch_embed\.',
        decay_mult=0.0,
    ),
    row(
        'table 8(a): 40 epochs of warm-up, a cosine; released code: both have a quarter of the peak as their floor',
        'param_scheduler.schedule',
        type='mmmim.warmup_cosine',
        start=0.25,
        base=1.0,
        final=0.25,
        warmup_ratio=40 / 800,
    ),
    row(
        'table 8(a): target encoder momentum; released code: a cosine',
        'default_hooks.target_ema.momentum',
        type='mmmim.cosine',
        start=0.99,
        final=1.0,
    ),
    row(
        'section 3.4: similarity constraint from 0.75 to 0.25; released code: a cosine',
        'default_hooks.similarity.schedule',
        type='mmmim.cosine',
        start=0.75,
        final=0.25,
    ),
    row(
        'table 8(a): ViT-B/16; released code: stretched positions, initialisation',
        'model.backbone',
        type='mmmim.ViT',
        img_size=224,
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        positions='sincos_stretched',
        init='latent_mim',
    ),
    row('appendix A.2: projector of three layers, 4096 wide', 'model.backbone', projector_dims=(4096, 4096)),
    row(
        'section 3.5: the target encoder sees the patches to predict',
        f'{BRANCH}.target_generator',
        type='mmmim.LatentTarget',
        in_dim=768,
        sees='predicted',
    ),
    row(
        'appendix A.2: 3 blocks of width 512 with visual cues',
        f'{BRANCH}.neck',
        type='mmmim.CrossAttentionDecoder',
        context_dim=768,
        embed_dim=512,
        depth=3,
        num_heads=16,
        visual_cues=True,
        grid=(14, 14),
    ),
    row('equations 7 and 9', f'{BRANCH}.head', type='mmmim.CombinedHead'),
    row('equation 7', f'{BRANCH}.head.heads.discrimination', type='mmmim.PatchDiscriminationHead', temperature=0.2),
    row('equation 8', f'{BRANCH}.head.heads.similarity', type='mmmim.SimilarityConstraint', weight=0.1),
    row('table 8(a): a momentum encoder', 'model', teacher=['backbone']),
    row('section 3.5: patches of 16 px in cells of 20 px', COLLATE, patch_size=16, gap=4),
    row('section 3.5: 90 % masked', f'{COLLATE}.masking', type='mmmim.UniformMasking', num_visible=20),
    row(
        'table 8(a): ImageNet-1k',
        'train_dataloader.dataset.dataset',
        type='mmmim.ImageFolder',
        data_root='data/imagenet/train',
    ),
    steps(
        'table 8(a): data augmentations',
        PIPELINE,
        'mmmim.LoadImage',
        'mmmim.RandomResizedCrop',
        'mmpretrain.RandomFlip',
        'mmpretrain.PackInputs',
    ),
    row('section 3.5: 14 cells of 20 px', CROP, scale=280),
    row('section 3.2: crops of 20 % and more; released code: bicubic', CROP, crop_ratio_range=(0.2, 1.0)),
    row('released code', CROP, interpolation='bicubic'),
    row('table 8(a): RandomHorizontalFlip', f'{PIPELINE}.2', prob=0.5),
)

IN100 = recipe(
    row('table 8(a), main study', global_batch_size=1024),
    row('table 8(a), main study: ImageNet-100', 'train_dataloader.dataset.dataset', data_root='data/imagenet100/train'),
    row('table 8(a), main study: base lr 1.5e-4', 'optim_wrapper.optimizer', lr=1.5e-4 * 1024 / 256),
    row('table 8(a), main study: 30 of 300 epochs', 'param_scheduler.schedule', warmup_ratio=30 / 300),
    row('table 8(a), main study: 300 epochs of 123 iterations', train_cfg=dict(max_iters=300 * 123)),
    base=VITB16,
)


def cells(source: str, gap: int) -> dict:
    """Patches with a gap, and the crop that has 14 of their cells on a side."""
    return recipe(row(source, COLLATE, gap=gap), row(source, CROP, scale=14 * (16 + gap)))


def visible(source: str, number: int) -> dict:
    """Of 196 patches."""
    return row(source, f'{COLLATE}.masking', num_visible=number)


_SELF_ATTENTION = row(
    'section 3.6: a decoder with self-attention',
    f'{BRANCH}.neck',
    type='mmmim.SelfAttentionPredictor',
    positions='sincos_stretched',
    init='latent_mim',
    out_dim=768,
)
#: What the chain of tables 1 to 4 says of the target as a row of its own.
_TEACHER = row('section 3.3: a momentum target', f'{BRANCH}.target_generator', encoder='teacher', stop_gradient=True)

SELF_ATTENTION = recipe(_SELF_ATTENTION, _TEACHER, base=without(IN100, f'{BRANCH}.neck.visual_cues'))
SELF_ATTENTION_NO_PROJECTOR = recipe(
    row('table 4: without projector', 'model.backbone', projector_dims=()), base=SELF_ATTENTION
)
UNCONSTRAINED = recipe(
    row(
        'table 3: without similarity constraint',
        f'{BRANCH}.head',
        type='mmmim.PatchDiscriminationHead',
        temperature=0.2,
    ),
    row('table 3: without similarity constraint', 'default_hooks', similarity=None),
    base=without(SELF_ATTENTION_NO_PROJECTOR, f'{BRANCH}.head', 'default_hooks.similarity'),
)
CONTIGUOUS_90 = recipe(cells('table 3: contiguous patches', 0), base=UNCONSTRAINED)
DISCRIMINATION = recipe(visible('tables 1 and 2: 75 % masked', 49), base=CONTIGUOUS_90)


def regression(loss: str) -> dict:
    """Table 2: a loss between predictions and latents."""
    return recipe(
        row('table 2, equations 4 to 6', f'{BRANCH}.head', type='mmmim.RegressionHead', loss=loss),
        base=without(DISCRIMINATION, f'{BRANCH}.head.temperature'),
    )


NAIVE = recipe(
    row('table 1: the encoder is its own target', f'{BRANCH}.target_generator', encoder='student', stop_gradient=False),
    row('table 1: no momentum encoder', 'model', teacher=None),
    row('table 1: no momentum encoder', 'default_hooks', target_ema=None),
    base=without(regression('mse'), 'default_hooks.target_ema'),
)


def deep_target(depth: int, decoder: int) -> dict:
    """Table 10."""
    return recipe(
        row('table 10', f'{BRANCH}.target_generator', depth=depth),
        row('table 10', f'{BRANCH}.neck', depth=decoder),
        base=IN100,
    )


def around(*rows: dict) -> dict:
    """A row of table 11: the optimal configuration and what the row changes."""
    return recipe(*rows, base=IN100)


RECIPES = {
    'latent_mim/vitb16': VITB16,
    'latent_mim/vitb16_in100': IN100,
    'latent_mim/ablations/naive': NAIVE,
    'latent_mim/ablations/stop_gradient': recipe(
        row('table 1: stop gradient', f'{BRANCH}.target_generator', stop_gradient=True), base=NAIVE
    ),
    'latent_mim/ablations/no_weight_sharing': recipe(
        row(
            'table 1: an encoder of its own',
            f'{BRANCH}.target_generator.encoder',
            type='mmmim.ViT',
            img_size=224,
            patch_size=16,
            embed_dim=768,
            depth=12,
            num_heads=12,
            positions='sincos_stretched',
            init='latent_mim',
        ),
        base=without(NAIVE, f'{BRANCH}.target_generator.encoder'),
    ),
    'latent_mim/ablations/momentum': regression('mse'),
    'latent_mim/ablations/loss_l1': regression('l1'),
    'latent_mim/ablations/loss_huber': regression('huber'),
    'latent_mim/ablations/patch_discrimination': DISCRIMINATION,
    'latent_mim/ablations/ratio_90_contiguous': CONTIGUOUS_90,
    'latent_mim/ablations/gap_4_unconstrained': UNCONSTRAINED,
    'latent_mim/ablations/self_attention_no_projector': SELF_ATTENTION_NO_PROJECTOR,
    'latent_mim/ablations/self_attention': SELF_ATTENTION,
    'latent_mim/ablations/no_visual_cues': around(row('table 4: no visual cues', f'{BRANCH}.neck', visual_cues=False)),
    'latent_mim/ablations/decoder_8': around(row('table 4: 8 blocks', f'{BRANCH}.neck', depth=8)),
    'latent_mim/ablations/target_depth_0': recipe(
        row(
            'table 10: pixels, normalised',
            f'{BRANCH}.target_generator',
            type='mmmim.PixelTarget',
            patch_size=16,
            normalize=True,
        ),
        row('table 10', f'{BRANCH}.neck', depth=7, out_dim=768),
        row('table 10: there is nothing to average', 'model', teacher=None),
        row('table 10: there is nothing to average', 'default_hooks', target_ema=None),
        base=without(IN100, f'{BRANCH}.target_generator', 'default_hooks.target_ema'),
    ),
    'latent_mim/ablations/target_depth_3': deep_target(3, 5),
    'latent_mim/ablations/target_depth_6': deep_target(6, 4),
    'latent_mim/ablations/target_depth_9': deep_target(9, 4),
    **{f'latent_mim/ablations/gap_{gap}': around(cells('table 11(a)', gap)) for gap in (0, 2, 6, 8)},
    'latent_mim/ablations/ratio_50': around(visible('table 11(b)', 98)),
    'latent_mim/ablations/ratio_75': around(visible('table 11(b)', 49)),
    'latent_mim/ablations/ratio_85': around(visible('table 11(b): 15 % of 196 is 29.4', 30)),
    'latent_mim/ablations/ratio_95': around(visible('table 11(b)', 10)),
    'latent_mim/ablations/no_similarity': recipe(
        row('table 11(c)', f'{BRANCH}.head', type='mmmim.PatchDiscriminationHead', temperature=0.2),
        row('table 11(c)', 'default_hooks', similarity=None),
        base=without(IN100, f'{BRANCH}.head', 'default_hooks.similarity'),
    ),
    'latent_mim/ablations/no_projector': around(row('table 11(e)', 'model.backbone', projector_dims=())),
    'latent_mim/ablations/loss_mse': recipe(
        row('table 11(f)', f'{BRANCH}.head.heads.discrimination', type='mmmim.RegressionHead', loss='mse'),
        row('released code: standardised targets', f'{BRANCH}.target_generator', normalize='standard'),
        base=without(IN100, f'{BRANCH}.head.heads.discrimination'),
    ),
}
