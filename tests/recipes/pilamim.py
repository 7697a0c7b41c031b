"""PiLaMIM (Lee et al., 2025), and the baselines of its table 1 that are recipes of their own."""

from tests.recipes import recipe, row, steps, without
from tests.recipes.mae import VITB16 as MAE

PIPELINE = 'train_dataloader.dataset.dataset.pipeline'
PIXELS, LATENT = 'model.branches.pixels', 'model.branches.latent'
CROP = f'{PIPELINE}.1'


def decoder(branch: str) -> dict:
    """Both are built alike."""
    return recipe(
        row(
            'appendix A.4: 6 blocks of width 384 with 12 heads',
            f'{branch}.neck',
            type='mmmim.SelfAttentionPredictor',
            context_dim=768,
            embed_dim=384,
            depth=6,
            num_heads=12,
            out_dim=768,
            grid=(14, 14),
        ),
        row(
            'released code: learned positions (one for CLS), no norm at the end, no biases of q, k, v, initialisation',
            f'{branch}.neck',
            positions='learnable',
            num_extra_positions=1,
            norm_eps=1e-5,
            final_norm=False,
            qkv_bias=False,
            init='torch',
        ),
    )


VITB16 = recipe(
    row('table 4', global_batch_size=2048),
    row('table 4: 800 epochs of 625 iterations', train_cfg=dict(max_iters=800 * 625)),
    row(
        'table 4: AdamW, base lr 1.5e-4 for 256 images, decay of everything; released code: float16',
        'optim_wrapper',
        dtype='float16',
        optimizer=dict(type='mmengine.AdamW', lr=1.5e-4 * 2048 / 256, betas=(0.9, 0.95), weight_decay=0.05),
    ),
    row(
        'table 4: cosine decay, 40 epochs of warm-up; released code: epoch by epoch, the lower of the two',
        'param_scheduler.schedule',
        type='mmmim.epochwise_min_cosine',
        epochs=800,
        warmup_epochs=40,
    ),
    row(
        'appendix A.4: from 0.996 to 1.0, linearly',
        'default_hooks.target_ema.momentum',
        type='mmmim.linear',
        start=0.996,
        final=1.0,
    ),
    row(
        'appendix A.4: ViT-B/16 at 224 px; released code: positions, norms, biases, initialisation',
        'model.backbone',
        type='mmmim.ViT',
        img_size=224,
        patch_size=16,
        embed_dim=768,
        depth=12,
        num_heads=12,
        positions='learnable',
        norm_eps=1e-5,
        qkv_bias=False,
        init='torch',
    ),
    row(
        'appendix A.4: pixels are not normalised',
        f'{PIXELS}.target_generator',
        type='mmmim.PixelTarget',
        normalize=False,
    ),
    row('appendix A.4', f'{PIXELS}.target_generator', patch_size=16),
    decoder(PIXELS),
    row('equation 3: squared error', f'{PIXELS}.head', type='mmmim.RegressionHead'),
    row(
        'appendix A.4: latents are not normalised', f'{LATENT}.target_generator', type='mmmim.LatentTarget', in_dim=768
    ),
    decoder(LATENT),
    row('equation 4: CLS is predicted', f'{LATENT}.neck', predict_cls=True),
    row('equation 4', f'{LATENT}.head', type='mmmim.CombinedHead'),
    row('equation 4', f'{LATENT}.head.heads.patches', type='mmmim.RegressionHead'),
    row('equation 4', f'{LATENT}.head.heads.cls', type='mmmim.RegressionHead', of='cls'),
    row('section 3: the target encoder', 'model', teacher=['backbone']),
    row('appendix A.4', 'train_dataloader.collate_fn', patch_size=16),
    row('appendix A.4', 'train_dataloader.collate_fn.masking', type='mmmim.UniformMasking', mask_ratio=0.75),
    row('table 4', 'train_dataloader.dataset.dataset', type='mmmim.ImageFolder', data_root='data/imagenet/train'),
    steps(
        'table 4; released code: flips',
        PIPELINE,
        'mmmim.LoadImage',
        'mmmim.RandomResizedCrop',
        'mmpretrain.RandomFlip',
        'mmpretrain.PackInputs',
    ),
    row('table 4: RandomResizedCrop; released code: 20 %, bicubic', CROP, scale=224, crop_ratio_range=(0.2, 1.0)),
    row('released code', CROP, interpolation='bicubic'),
    row('released code: flips', f'{PIPELINE}.2', prob=0.5),
)

RECIPES = {
    'pilamim/vitb16': VITB16,
    'pilamim/vitb16_600e': recipe(
        row('table 1: 600 epochs', 'param_scheduler.schedule', epochs=600),
        row('table 1: 600 epochs', train_cfg=dict(max_iters=600 * 625)),
        base=VITB16,
    ),
    'pilamim/vitb16_no-cls': recipe(
        row('table 2: without CLS', f'{LATENT}.neck', predict_cls=False),
        row('table 2: without CLS', f'{LATENT}.head', type='mmmim.RegressionHead'),
        base=without(VITB16, f'{LATENT}.head'),
    ),
    'pilamim/vitb16_released': recipe(
        row('released code', f'{PIXELS}.head', nominal_ratio=0.75),
        row('released code', f'{LATENT}.head.heads.patches', nominal_ratio=0.75),
        row('released code', f'{LATENT}.target_generator', aligned=False),
        row('released code', 'model', teacher_init='own'),
        base=VITB16,
    ),
    'mae/vitb16_800e': recipe(
        row('table 4', global_batch_size=2048),
        row('table 4: base lr 1.5e-4 for 256 images', 'optim_wrapper.optimizer', lr=1.5e-4 * 2048 / 256),
        row('table 4: 40 of 800 epochs', 'param_scheduler.schedule', warmup_ratio=40 / 800),
        row('table 4: 800 epochs of 625 iterations', train_cfg=dict(max_iters=800 * 625)),
        row('appendix A.4: pixels are not normalised', f'{PIXELS}.target_generator', normalize=False),
        base=MAE,
    ),
}
