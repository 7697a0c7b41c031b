# BootMAE ViT-B/16 on ImageNet-1k (arXiv 2207.07116): 800 epochs of 312 iterations, batch 4096, 224 px.
#
# Linear probing as measured by PiLaMIM (Lee et al., 2025, table 1): ImageNet-1k 67.6 (not run here).
#
# Run: tools/dist_train.sh projects/bootmae/configs/vitb16.py 8
# `global_batch_size` is shared by all GPUs. If a GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = '{{$MMMIM_CONFIGS:../../../configs}}/mae/vitb16.py'
custom_imports = dict(imports=['projects.bootmae.decoder'])

# MAE's branch with another decoder, which reads the encoder's first block, and a second branch: the teacher's features.
model = dict(
    branches=dict(
        pixels=dict(
            neck=dict(
                _delete_=True,
                type='mmmim.FeatureInjectionDecoder',
                context_dim=768,
                embed_dim=512,
                depth=2,
                num_heads=16,
                out_dim=768,
                layer=0,
                grid=(14, 14),
            ),
        ),
        features=dict(
            target_generator=dict(type='mmmim.LatentTarget', in_dim=768, normalize='layer'),
            neck=dict(
                type='mmmim.FeatureInjectionDecoder',
                context_dim=768,
                embed_dim=512,
                depth=2,
                num_heads=16,
                layer=-1,
                grid=(14, 14),
            ),
            head=dict(type='mmmim.RegressionHead'),
        ),
    ),
    teacher=['backbone'],
)

# The blocks of the decoder have norms with longer names than MAE's.
optim_wrapper = dict(paramwise_cfg=dict(rules=dict(no_decay=dict(match=r'\.bias$|norm\w*\.weight$'))))
# 40 of 800 epochs.
param_scheduler = dict(schedule=dict(warmup_ratio=0.05))
train_cfg = dict(max_iters=249_600)
default_hooks = dict(
    target_ema=dict(
        type='mmmim.TargetEMAHook',
        # From 0.999 to 0.9999 in the first 100 epochs.
        momentum=dict(type='mmmim.truncated_cosine', start=0.999, base=0.9999, final=0.9999, warmup_ratio=0.125),
    )
)
