# The recipe of Latent MIM (arXiv 2407.15837, table 8): AdamW, 1.5e-4 per 256 images, a cosine to a quarter of the rate,
# where the warm-up starts too (a floor that the released code has and the paper does not mention).
_base_ = '../default_runtime.py'

optim_wrapper = dict(
    type='mmmim.OptimWrapper',
    dtype='bfloat16',
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=2.4e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    # No decay of what has one axis, nor of the embeddings of patches and of the decoder.
    paramwise_cfg=dict(rules=dict(no_decay=dict(match=r'bias$|norm\w*\.|\.embed\.|patch_embed\.', decay_mult=0.0))),
)
param_scheduler = dict(
    type='mmmim.ScheduleLR',
    by_epoch=False,
    schedule=dict(type='mmmim.warmup_cosine', start=0.25, base=1.0, final=0.25, warmup_ratio=0.05),
)
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=249_600)

default_hooks = dict(
    target_ema=dict(type='mmmim.TargetEMAHook', momentum=dict(type='mmmim.cosine', start=0.99, final=1.0)),
    similarity=dict(
        type='mmmim.ScheduledValueHook',
        name='branches.latent.head.heads.similarity.target',
        schedule=dict(type='mmmim.cosine', start=0.75, final=0.25),
    ),
)
