# The recipe of MAE (arXiv 2111.06377, appendix A): AdamW, warm-up of 40 epochs in 1600, cosine to 0.
_base_ = '../default_runtime.py'

optim_wrapper = dict(
    type='mmmim.OptimWrapper',
    dtype='bfloat16',
    constructor='mmmim.RuleOptimWrapperConstructor',
    # 1.5e-4 per 256 images.
    optimizer=dict(type='mmengine.AdamW', lr=2.4e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(rules=dict(no_decay=dict(match=r'\.bias$|norm\d?\.weight$', decay_mult=0.0))),
)
param_scheduler = dict(
    type='mmmim.ScheduleLR',
    by_epoch=False,
    schedule=dict(type='mmmim.truncated_cosine', warmup_ratio=0.025, truncation=1.0),
)
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=499_200)
