# The recipe of CAPI (arXiv 2502.08769, table 6): AdamW, truncated cosines of learning rate and momentum.
_base_ = '../default_runtime.py'

optim_wrapper = dict(
    type='mmmim.OptimWrapper',
    dtype='bfloat16',
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True),
    # The first rule that matches a parameter's name decides.
    paramwise_cfg=dict(
        rules=dict(
            # Half the rate, weight decay 0.01, bias included.
            clustering=dict(match=r'target_generator\.', lr_mult=0.5, decay_mult=0.1),
            patch_bias=dict(match=r'patch_embed\.bias$', lr_mult=0.2, decay_mult=0.0),
            patch_weight=dict(match=r'patch_embed\.weight$', lr_mult=0.2),
            norms=dict(match=r'norm\d\.weight$', decay_mult=0.1),
        )
    ),
)
param_scheduler = dict(
    type='mmmim.ScheduleLR',
    by_epoch=False,
    schedule=dict(type='mmmim.truncated_cosine', warmup_ratio=0.1, truncation=0.8),
)
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=500_000)

# From 1 to `base` during the warm-up and back towards 1: one minus the learning rate, for ViT-L.
default_hooks = dict(
    target_ema=dict(
        type='mmmim.TargetEMAHook',
        momentum=dict(
            type='mmmim.truncated_cosine', start=1.0, base=0.999, final=1.0, warmup_ratio=0.1, truncation=0.8
        ),
    )
)
