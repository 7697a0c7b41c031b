"""CAPI, "Cluster and Predict Latent Patches" (arXiv 2502.08769)."""

from tests.recipes import GONE, row, steps, without
from tests.recipes import recipe as _recipe

PIPELINE = 'train_dataloader.dataset.dataset.pipeline'
BRANCH = 'model.branches.capi'
MASKING = 'train_dataloader.collate_fn.masking'
CROP = f'{PIPELINE}.1'


def images(data_root: str, source: str) -> dict:
    """The folder of the images."""
    return row(source, 'train_dataloader.dataset.dataset', type='mmmim.ImageFolder', data_root=data_root)


VITL14 = _recipe(
    row('table 6: batch size', global_batch_size=16384),
    row('table 8, M5e2e: iterations', train_cfg=dict(max_iters=500_000)),
    row(
        'table 6: optimiser, learning rate, weight decay, training dtype',
        'optim_wrapper',
        dtype='bfloat16',
        optimizer=dict(type='mmengine.AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1),
    ),
    row(
        'table 6: clustering lr, patch embed lr, norm layer wd; its clustering decays by 0.01, biases by nothing',
        'optim_wrapper.paramwise_cfg.rules',
        clustering=dict(match=r'target_generator\.', lr_mult=0.5, decay_mult=0.1),
        patch_bias=dict(match=r'patch_embed\.bias$', lr_mult=0.2, decay_mult=0.0),
        patch_weight=dict(match=r'patch_embed\.weight$', lr_mult=0.2),
        norms=dict(match=r'norm\d\.weight$', decay_mult=0.1),
    ),
    row(
        'table 6: linear warm-up of 10 % and a cosine truncated by 20 %',
        'param_scheduler.schedule',
        type='mmmim.truncated_cosine',
        warmup_ratio=0.1,
        truncation=0.8,
    ),
    row(
        'table 6: teacher momentum 1 - lr, which has the schedule of the learning rate',
        'default_hooks.target_ema.momentum',
        type='mmmim.truncated_cosine',
        start=1.0,
        base=0.999,
        final=1.0,
        warmup_ratio=0.1,
        truncation=0.8,
    ),
    row(
        'section 4.1 and table 6: ViT-L/14 at 224 px, 16 registers, RoPE, RMS norm of 1e-5, no biases, no layer scale',
        'model.backbone',
        type='mmmim.ViT',
        img_size=224,
        patch_size=14,
        embed_dim=1024,
        depth=24,
        num_heads=16,
        num_cls_tokens=0,
        num_registers=16,
        positions='rope',
        norm='rms',
        norm_eps=1e-5,
        final_affine=False,
        bias=False,
        qkv_bias=False,
        init='capi',
    ),
    row('table 6: stochastic depth', 'model.backbone', drop_path_rate=0.2),
    row(
        'section 3.2 and table 6: prototypes, temperatures, three iterations of positional Sinkhorn-Knopp',
        f'{BRANCH}.target_generator',
        type='mmmim.OnlineClustering',
        in_dim=1024,
        num_prototypes=16384,
        positional=True,
        target_temperature=0.06,
        temperature=0.12,
        iterations=3,
    ),
    row(
        'section 3.3 and table 1(f): cross-attention, 12 blocks of width 1024',
        f'{BRANCH}.neck',
        type='mmmim.CrossAttentionPredictor',
        context_dim=1024,
        embed_dim=1024,
        depth=12,
        num_heads=16,
        drop_path_rate=0.2,
    ),
    row(
        'table 6: prototypes, student temperature; section 3.2: a linear head',
        f'{BRANCH}.head',
        type='mmmim.PrototypeHead',
        in_dim=1024,
        num_prototypes=16384,
        temperature=0.12,
    ),
    row(
        'section 3.3: the teacher is the average of the student',
        'model',
        teacher=['backbone', 'branches.capi.neck', 'branches.capi.head'],
    ),
    row('table 6: patches of 14 px', 'train_dataloader.collate_fn', patch_size=14),
    row(
        'table 6: inverse block and roll, 65 %; 7 predicted of the masked, 8 by the formula of the released code',
        MASKING,
        type='mmmim.InverseBlockMasking',
        mask_ratio=0.65,
        predict_ratio=0.05,
        roll=True,
    ),
    images('data/imagenet22k', 'table 8, M5e2e: ImageNet-22k'),
    steps(
        'table 6: RRCrop, HFlip',
        PIPELINE,
        'mmmim.LoadImage',
        'mmmim.RandomResizedCrop',
        'mmpretrain.RandomFlip',
        'mmpretrain.PackInputs',
    ),
    row('table 6: image size', CROP, scale=224),
    row('table 1(d), [0.6, 1]; released code: bicubic', CROP, crop_ratio_range=(0.6, 1.0), interpolation='bicubic'),
    row('table 6: HFlip', f'{PIPELINE}.2', prob=0.5),
)


def sizes(source: str, width: int, depth: int, heads: int, predictor: int) -> dict:
    """Of encoder, predictor and what is as wide as they are."""
    return _recipe(
        row(source, 'model.backbone', embed_dim=width, depth=depth, num_heads=heads),
        row(source, f'{BRANCH}.neck', context_dim=width, embed_dim=width, depth=predictor, num_heads=heads),
        row(source, f'{BRANCH}.target_generator', in_dim=width),
        row(source, f'{BRANCH}.head', in_dim=width),
    )


def rates(source: str, lr: float, momentum: float) -> dict:
    """Learning rate and momentum, which belong together; that of the clustering is half of it."""
    return _recipe(
        row(source, 'optim_wrapper.optimizer', lr=lr),
        row(source, 'default_hooks.target_ema.momentum', base=momentum),
    )


VITL16 = _recipe(
    row('table 8: patches of the ablations', 'model.backbone', patch_size=16),
    row('table 8: patches of the ablations', 'train_dataloader.collate_fn', patch_size=16),
    row('table 8: iterations of the ablations', train_cfg=dict(max_iters=100_000)),
    rates('table 8: lr and momentum of the ablations', 2e-3, 0.996),
    base=VITL14,
)


def ablation(*rows: dict) -> dict:
    """A row of table 1: the model of the ablations and what the row changes."""
    return _recipe(*rows, base=VITL16)


def prototypes(number: int) -> dict:
    """Of table 1(h)."""
    return ablation(
        *(
            row('table 1: prototypes', f'{BRANCH}.{part}', num_prototypes=number)
            for part in ('target_generator', 'head')
        )
    )


def predictor(depth: int, width: int) -> dict:
    """Of table 1(f)."""
    return ablation(
        row('table 1(f)', f'{BRANCH}.neck', depth=depth, embed_dim=width),
        row('table 1(f)', f'{BRANCH}.head', in_dim=width),
    )


def length(iterations: int) -> dict:
    """Of figure 6."""
    return ablation(row('figure 6', train_cfg=dict(max_iters=iterations)))


IBOT = _recipe(
    row(
        'table 1(c): targets of the head of the teacher', f'{BRANCH}.target_generator', type='mmmim.TeacherAssignments'
    ),
    row('table 1(c): targets of the head of the teacher', f'{BRANCH}.target_generator', head='branches.capi.head'),
    row('table 1(c): MLP heads', f'{BRANCH}.head', mlp_dims=(2048, 2048, 256)),
    row('there is nothing to cluster', 'optim_wrapper.paramwise_cfg.rules', clustering=None),
    base=without(
        VITL16,
        'optim_wrapper.paramwise_cfg.rules.clustering',
        *(
            f'{BRANCH}.target_generator.{key}'
            for key in ('in_dim', 'positional', 'target_temperature', 'temperature', 'iterations')
        ),
    ),
)

RECIPES = {
    'capi/vitl14': VITL14,
    'capi/vitl14_in1k': _recipe(images('data/imagenet/train', 'table 8, M2d34'), base=VITL14),
    'capi/vitl14_places205': _recipe(images('data/places205/train', 'table 8, M8319'), base=VITL14),
    'capi/vitb14': _recipe(sizes('table 8, Mc2dd', 768, 12, 12, 6), base=VITL14),
    'capi/vits14': _recipe(
        sizes('table 8, M8c4d', 384, 12, 6, 6), rates('table 8, M8c4d: lr and momentum', 2e-3, 0.998), base=VITL14
    ),
    'capi/ablations/vitl16': VITL16,
    'capi/ablations/predictor_fused': _recipe(
        row('table 1(a): one network', 'model.backbone', fused=True),
        row('table 1(a): one network', f'{BRANCH}.neck', type='mmmim.PickPredicted', context_dim=1024),
        base=without(VITL16, f'{BRANCH}.neck'),
    ),
    'capi/ablations/predictor_self_attention': ablation(
        row('table 1(a): self-attention', f'{BRANCH}.neck', type='mmmim.SelfAttentionPredictor', positions='rope'),
        row('blocks of table 6', f'{BRANCH}.neck', norm='rms', norm_eps=1e-5, final_affine=False, init='capi'),
        row('table 6: no biases', f'{BRANCH}.neck', bias=False, qkv_bias=False),
    ),
    'capi/ablations/masking_random': ablation(
        row('table 1(b), table 8: 90 %, no roll', MASKING, type='mmmim.UniformMasking', mask_ratio=0.9, roll=GONE)
    ),
    'capi/ablations/masking_block': ablation(row('table 1(b)', MASKING, type='mmmim.BlockMasking', roll=GONE)),
    'capi/ablations/masking_inverse_block': ablation(row('table 1(b)', MASKING, roll=False)),
    'capi/ablations/head_mlp': ablation(row('table 1(c): MLP head', f'{BRANCH}.head', mlp_dims=(2048, 2048, 256))),
    'capi/ablations/loss_ibot': IBOT,
    'capi/ablations/loss_ijepa': _recipe(
        row('table 1(c): features', f'{BRANCH}.target_generator', type='mmmim.LatentTarget', in_dim=1024),
        row('table 1(c): Huber', f'{BRANCH}.head', type='mmmim.RegressionHead', loss='huber'),
        base=without(IBOT, f'{BRANCH}.target_generator', f'{BRANCH}.head'),
    ),
    'capi/ablations/crop_100': ablation(row('table 1(d)', CROP, crop_ratio_range=(1.0, 1.0))),
    'capi/ablations/crop_20': ablation(row('table 1(d)', CROP, crop_ratio_range=(0.2, 1.0))),
    'capi/ablations/ratio_55': ablation(row('table 1(e)', MASKING, mask_ratio=0.55)),
    'capi/ablations/ratio_75': ablation(row('table 1(e)', MASKING, mask_ratio=0.75)),
    'capi/ablations/predictor_5x1536': predictor(5, 1536),
    'capi/ablations/predictor_21x768': predictor(21, 768),
    'capi/ablations/registers_0': ablation(row('table 1: registers', 'model.backbone', num_registers=0)),
    'capi/ablations/positions_learnable': ablation(
        row('table 1: positions', 'model.backbone', positions='learnable'),
        row('table 1: positions', f'{BRANCH}.neck', positions='learnable', grid=(14, 14)),
    ),
    'capi/ablations/sinkhorn_standard': ablation(row('table 1', f'{BRANCH}.target_generator', positional=False)),
    **{f'capi/ablations/prototypes_{number}': prototypes(number) for number in (1024, 2048, 4096, 8192, 32768)},
    **{f'capi/ablations/iterations_{n}k': length(1000 * n) for n in (25, 50, 200)},
    'capi/ablations/data_in1k': ablation(images('data/imagenet/train', 'table 1: data')),
    'capi/ablations/data_lvd142m': ablation(images('data/lvd142m', 'table 1: data')),
}
