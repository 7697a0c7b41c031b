# The recipe of I-JEPA for ViT-B/16 and ViT-L/16 (arXiv 2301.08243, appendix A): AdamW, 600 epochs, 15 of them warm-up
# from 1e-4 to 1e-3, a cosine to 1e-6; weight decay from 0.04 to 0.4, by a cosine as in the released code (the paper:
# linear). Learning rate and weight decay are advanced before they are used, the momentum of the teacher is not.
_base_ = '../default_runtime.py'

optim_wrapper = dict(
    type='mmmim.OptimWrapper',
    dtype='bfloat16',
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=0.4, fused=True),
    # No decay of biases and of what has one axis.
    paramwise_cfg=dict(rules=dict(no_decay=dict(match=r'bias$|norm\w*\.weight$', decay_mult=0.0))),
)
param_scheduler = dict(
    lr=dict(
        type='mmmim.ScheduleLR',
        by_epoch=False,
        schedule=dict(type='mmmim.warmup_cosine', start=0.1, base=1.0, final=1e-3, warmup_ratio=0.025, first=1),
    ),
    weight_decay=dict(
        type='mmmim.ScheduleWeightDecay',
        by_epoch=False,
        schedule=dict(type='mmmim.cosine', start=0.1, final=1.0, first=1),
    ),
)
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=375_000)

default_hooks = dict(
    target_ema=dict(type='mmmim.TargetEMAHook', momentum=dict(type='mmmim.linear', start=0.996, final=1.0)),
)
