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
    masking=dict(num_visible=25, type='mmmim.UniformMasking'),
    patch_size=4,
    type='mmmim.MaskCollate')
model = dict(
    backbone=dict(
        depth=4,
        drop_path_rate=(
            0.0,
            0.1,
        ),
        embed_dim=96,
        extra_positions=True,
        final_norm=False,
        fused=False,
        img_size=32,
        init='trunc_normal_rescaled',
        layer_scale=0.1,
        num_cls_tokens=8,
        num_heads=3,
        patch_size=4,
        positions='learnable',
        qkv_bias='qv',
        type='mmmim.ViT'),
    branches=dict(
        semantic=dict(
            head=dict(type='mmmim.CrossEntropyHead'),
            neck=dict(
                context_dim=96,
                depth=4,
                drop_path_rate=(
                    0.0,
                    0.1,
                ),
                init='trunc_normal_rescaled',
                layer_scale=0.1,
                num_heads=3,
                out_dim=512,
                qkv_bias='qv',
                type='mmmim.ProxyReconstruction'),
            target_generator=dict(
                patch_size=4,
                tokenizer=dict(
                    codebook='data/digit_scenes_codebook.pth',
                    num_tokens=512,
                    patch_size=4,
                    type='mmmim.KMeansTokenizer'),
                type='mmmim.TokenizerTarget'))),
    data_preprocessor=dict(type='mmmim.MIMDataPreprocessor'),
    micro_batch_size=None,
    type='mmmim.MaskedImageModeling')
optim_wrapper = dict(
    clip_norm=3.0,
    constructor='mmmim.RuleOptimWrapperConstructor',
    dtype=None,
    optimizer=dict(
        betas=(
            0.9,
            0.999,
        ),
        fused=True,
        lr=0.004,
        type='mmengine.AdamW',
        weight_decay=0.05),
    paramwise_cfg=dict(
        rules=dict(
            no_decay=dict(
                decay_mult=0.0,
                match=
                '\\.bias$|norm\\d?\\.weight$|scale\\d\\.weight$|extra_tokens$|positions\\.'
            ))),
    type='mmmim.OptimWrapper')
param_scheduler = dict(
    by_epoch=False,
    schedule=dict(
        final=0.006666666666666667,
        start=0.0001,
        truncation=1.0,
        type='mmmim.truncated_cosine',
        warmup_ratio=0.1),
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
        masking=dict(num_visible=25, type='mmmim.UniformMasking'),
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
        masking=dict(num_visible=25, type='mmmim.UniformMasking'),
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
        masking=dict(num_visible=25, type='mmmim.UniformMasking'),
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
