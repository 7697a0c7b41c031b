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
        interval=400, linear=(
            'all',
            'pooled',
        ), type='mmmim.ProbeHook'),
    runtime_info=dict(type='mmmim.RuntimeInfoHook'),
    sampler_seed=dict(type='mmengine.DistSamplerSeedHook'),
    target_ema=dict(
        momentum=dict(
            base=0.99,
            final=1.0,
            start=1.0,
            truncation=0.8,
            type='mmmim.truncated_cosine',
            warmup_ratio=0.1),
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
    masking=dict(
        mask_ratio=0.65,
        predict_ratio=0.2,
        roll=True,
        type='mmmim.InverseBlockMasking'),
    patch_size=4,
    type='mmmim.MaskCollate')
model = dict(
    backbone=dict(
        bias=False,
        depth=4,
        drop_path_rate=0.0,
        embed_dim=96,
        final_affine=False,
        img_size=64,
        init='capi',
        norm='rms',
        norm_eps=1e-05,
        num_cls_tokens=0,
        num_heads=3,
        num_registers=4,
        patch_size=8,
        positions='rope',
        qkv_bias=False,
        type='mmmim.ViT'),
    branches=dict(
        capi=dict(
            head=dict(
                in_dim=96,
                num_prototypes=512,
                temperature=0.12,
                type='mmmim.PrototypeHead'),
            neck=dict(
                context_dim=96,
                depth=2,
                drop_path_rate=0.0,
                embed_dim=96,
                num_heads=3,
                type='mmmim.CrossAttentionPredictor'),
            target_generator=dict(
                chunk_positions=None,
                in_dim=96,
                iterations=3,
                num_prototypes=512,
                positional=True,
                target_temperature=0.06,
                temperature=0.12,
                type='mmmim.OnlineClustering'))),
    data_preprocessor=dict(type='mmmim.MIMDataPreprocessor'),
    micro_batch_size=None,
    teacher=[
        'backbone',
        'branches.capi.neck',
        'branches.capi.head',
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
        weight_decay=0.1),
    paramwise_cfg=dict(
        rules=dict(
            clustering=dict(
                decay_mult=0.1, lr_mult=0.5, match='target_generator\\.'),
            norms=dict(decay_mult=0.1, match='norm\\d\\.weight$'),
            patch_bias=dict(
                decay_mult=0.0, lr_mult=0.2, match='patch_embed\\.bias$'),
            patch_weight=dict(lr_mult=0.2, match='patch_embed\\.weight$'))),
    type='mmmim.OptimWrapper')
param_scheduler = dict(
    by_epoch=False,
    schedule=dict(
        truncation=0.8, type='mmmim.truncated_cosine', warmup_ratio=0.1),
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
        masking=dict(
            mask_ratio=0.65,
            predict_ratio=0.2,
            roll=True,
            type='mmmim.InverseBlockMasking'),
        patch_size=8,
        type='mmmim.MaskCollate'),
    dataset=dict(
        dataset=dict(
            data_root='data/digit_scenes',
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(type='mmpretrain.PackInputs'),
            ],
            split='test',
            subset='multi',
            type='mmmim.DigitScenes'),
        type='mmmim.SeededDataset'),
    num_workers=0,
    sampler=dict(shuffle=False, type='mmengine.DefaultSampler'))
test_evaluator = dict(type='mmmim.MeanLosses')
train_cfg = dict(
    max_iters=800, type='mmengine.IterBasedTrainLoop', val_interval=400)
train_dataloader = dict(
    collate_fn=dict(
        masking=dict(
            mask_ratio=0.65,
            predict_ratio=0.2,
            roll=True,
            type='mmmim.InverseBlockMasking'),
        patch_size=8,
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
                    scale=64,
                    type='mmpretrain.RandomResizedCrop'),
                dict(type='mmpretrain.PackInputs'),
            ],
            split='train',
            subset='multi',
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
        masking=dict(
            mask_ratio=0.65,
            predict_ratio=0.2,
            roll=True,
            type='mmmim.InverseBlockMasking'),
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
