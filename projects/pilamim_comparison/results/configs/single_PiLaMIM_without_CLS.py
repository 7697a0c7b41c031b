_decoder = dict(
    context_dim=96,
    depth=2,
    embed_dim=64,
    final_norm=False,
    grid=(
        8,
        8,
    ),
    init='torch',
    norm_eps=1e-05,
    num_extra_positions=1,
    num_heads=4,
    out_dim=768,
    positions='learnable',
    qkv_bias=False,
    type='mmmim.SelfAttentionPredictor')
custom_hooks = [
    dict(type='mmmim.StepSeedHook'),
    dict(type='mmmim.TrainingInfoHook'),
    dict(type='mmmim.CurvesHook'),
    dict(type='mmmim.PicturesHook'),
]
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=400,
        max_keep_ckpts=1,
        type='mmmim.CheckpointHook'),
    health=dict(interval=100, type='mmmim.HealthHook'),
    logger=dict(
        interval=25, log_metric_by_epoch=False, type='mmengine.LoggerHook'),
    param_scheduler=dict(type='mmengine.ParamSchedulerHook'),
    probe=dict(
        interval=400,
        linear=(
            'all',
            'pooled',
            'cls',
        ),
        type='mmmim.ProbeHook'),
    runtime_info=dict(type='mmmim.RuntimeInfoHook'),
    sampler_seed=dict(type='mmengine.DistSamplerSeedHook'),
    target_ema=dict(
        momentum=dict(final=1.0, start=0.996, type='mmmim.linear'),
        type='mmmim.TargetEMAHook'),
    timer=dict(type='mmengine.IterTimerHook'))
default_scope = 'mmmim'
env_cfg = dict(
    cudnn_benchmark=False,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
global_batch_size = 128
load_from = None
log_level = 'INFO'
log_processor = dict(
    by_epoch=False, type='mmengine.LogProcessor', window_size=25)
mask_collate = dict(
    masking=dict(mask_ratio=0.75, type='mmmim.UniformMasking'),
    patch_size=4,
    type='mmmim.MaskCollate')
model = dict(
    backbone=dict(
        depth=4,
        embed_dim=96,
        img_size=32,
        init='torch',
        norm_eps=1e-05,
        num_heads=3,
        patch_size=4,
        positions='learnable',
        qkv_bias=False,
        type='mmmim.ViT'),
    branches=dict(
        latent=dict(
            head=dict(type='mmmim.RegressionHead'),
            neck=dict(
                context_dim=96,
                depth=2,
                embed_dim=64,
                final_norm=False,
                grid=(
                    8,
                    8,
                ),
                init='torch',
                norm_eps=1e-05,
                num_extra_positions=1,
                num_heads=4,
                out_dim=96,
                positions='learnable',
                predict_cls=False,
                qkv_bias=False,
                type='mmmim.SelfAttentionPredictor'),
            target_generator=dict(in_dim=96, type='mmmim.LatentTarget')),
        pixels=dict(
            head=dict(type='mmmim.RegressionHead'),
            neck=dict(
                context_dim=96,
                depth=2,
                embed_dim=64,
                final_norm=False,
                grid=(
                    8,
                    8,
                ),
                init='torch',
                norm_eps=1e-05,
                num_extra_positions=1,
                num_heads=4,
                out_dim=48,
                positions='learnable',
                qkv_bias=False,
                type='mmmim.SelfAttentionPredictor'),
            target_generator=dict(
                normalize=False, patch_size=4, type='mmmim.PixelTarget'))),
    data_preprocessor=dict(type='mmmim.MIMDataPreprocessor'),
    micro_batch_size=None,
    teacher=[
        'backbone',
    ],
    type='mmmim.MaskedImageModeling')
optim_wrapper = dict(
    constructor='mmmim.RuleOptimWrapperConstructor',
    dtype=None,
    optimizer=dict(
        betas=(
            0.9,
            0.95,
        ),
        fused=True,
        lr=0.004,
        type='mmengine.AdamW',
        weight_decay=0.05),
    type='mmmim.OptimWrapper')
param_scheduler = dict(
    by_epoch=False,
    schedule=dict(
        epochs=800, type='mmmim.epochwise_min_cosine', warmup_epochs=80),
    type='mmmim.ScheduleLR')
probe_data = dict(
    train=dict(
        data_root='data/digit_scenes',
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(
                imdecode_backend='pillow',
                type='mmcv.LoadAnnotations',
                with_bbox=False,
                with_label=False,
                with_seg=True),
            dict(
                algorithm_keys=('gt_seg_map', ), type='mmpretrain.PackInputs'),
        ],
        split='train',
        subset='single',
        type='mmmim.DigitScenes'),
    val=dict(
        data_root='data/digit_scenes',
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(
                imdecode_backend='pillow',
                type='mmcv.LoadAnnotations',
                with_bbox=False,
                with_label=False,
                with_seg=True),
            dict(
                algorithm_keys=('gt_seg_map', ), type='mmpretrain.PackInputs'),
        ],
        split='val',
        subset='single',
        type='mmmim.DigitScenes'))
randomness = dict(deterministic=False, seed=0)
resume = False
strategy = dict(type=None)
test_cfg = dict(type='mmengine.TestLoop')
test_dataloader = dict(
    batch_size=250,
    collate_fn=dict(
        masking=dict(mask_ratio=0.75, type='mmmim.UniformMasking'),
        patch_size=4,
        type='mmmim.MaskCollate'),
    dataset=dict(
        dataset=dict(
            data_root='data/digit_scenes',
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(type='mmpretrain.PackInputs'),
            ],
            split='test',
            subset='single',
            type='mmmim.DigitScenes'),
        type='mmmim.SeededDataset'),
    num_workers=0,
    sampler=dict(shuffle=False, type='mmengine.DefaultSampler'))
test_evaluator = dict(type='mmmim.MeanLosses')
train_cfg = dict(
    max_iters=300, type='mmengine.IterBasedTrainLoop', val_interval=400)
train_dataloader = dict(
    collate_fn=dict(
        masking=dict(mask_ratio=0.75, type='mmmim.UniformMasking'),
        patch_size=4,
        type='mmmim.MaskCollate'),
    dataset=dict(
        dataset=dict(
            data_root='data/digit_scenes',
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    backend='pillow',
                    crop_ratio_range=(
                        0.6,
                        1.0,
                    ),
                    interpolation='bicubic',
                    scale=32,
                    type='mmpretrain.RandomResizedCrop'),
                dict(type='mmpretrain.PackInputs'),
            ],
            split='train',
            subset='single',
            type='mmmim.DigitScenes'),
        type='mmmim.SeededDataset'),
    drop_last=True,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=True, type='mmmim.PositionSampler'))
trust_checkpoint = False
val_cfg = dict(type='mmengine.ValLoop')
val_dataloader = dict(
    batch_size=250,
    collate_fn=dict(
        masking=dict(mask_ratio=0.75, type='mmmim.UniformMasking'),
        patch_size=4,
        type='mmmim.MaskCollate'),
    dataset=dict(
        dataset=dict(
            data_root='data/digit_scenes',
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(type='mmpretrain.PackInputs'),
            ],
            split='val',
            subset='single',
            type='mmmim.DigitScenes'),
        type='mmmim.SeededDataset'),
    num_workers=0,
    sampler=dict(shuffle=False, type='mmengine.DefaultSampler'))
val_evaluator = dict(type='mmmim.MeanLosses')
visualizer = dict(
    type='mmengine.Visualizer',
    vis_backends=[
        dict(type='mmengine.LocalVisBackend'),
    ])
