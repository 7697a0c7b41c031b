# BootMAE on FashionScenes: photographs of garments, which come along. For a CPU and a few minutes. The recipe of
# vitb16.py at 32 px with a tiny ViT, as configs/mae/small.py, with learning rate 4e-3 and a momentum from 0.99.
_base_ = '{{$MMMIM_CONFIGS:../../../configs}}/mae/small.py'
custom_imports = dict(imports=['projects.bootmae.decoder'])

model = dict(
    branches=dict(
        pixels=dict(
            neck=dict(
                _delete_=True,
                type='mmmim.FeatureInjectionDecoder',
                context_dim=96,
                embed_dim=64,
                depth=2,
                num_heads=4,
                out_dim=48,
                layer=0,
                grid=(8, 8),
            ),
        ),
        features=dict(
            target_generator=dict(type='mmmim.LatentTarget', in_dim=96, normalize='layer'),
            neck=dict(
                type='mmmim.FeatureInjectionDecoder',
                context_dim=96,
                embed_dim=64,
                depth=2,
                num_heads=4,
                layer=-1,
                grid=(8, 8),
            ),
            head=dict(type='mmmim.RegressionHead'),
        ),
    ),
    teacher=['backbone'],
)

# The blocks of the decoder have norms with longer names than MAE's.
optim_wrapper = dict(
    optimizer=dict(lr=4e-3),
    paramwise_cfg=dict(rules=dict(no_decay=dict(match=r'\.bias$|norm\w*\.weight$'))),
)
default_hooks = dict(
    target_ema=dict(
        type='mmmim.TargetEMAHook',
        momentum=dict(type='mmmim.truncated_cosine', start=0.99, base=0.999, final=0.999, warmup_ratio=0.125),
    )
)
