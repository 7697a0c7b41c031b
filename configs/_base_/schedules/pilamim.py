# The recipe of PiLaMIM (Lee et al., 2025, appendix A.5): AdamW, 1.5e-4 per 256 images, 800 epochs of 625 iterations. As
# in the released code, everything decays (for the usual exemptions, set paramwise_cfg as in mae.py), the rate is the
# lower one of a warm-up of 40 epochs and a cosine from the first epoch on, constant within an epoch, and the precision
# is float16.
_base_ = '../default_runtime.py'

optim_wrapper = dict(
    type='mmmim.OptimWrapper',
    dtype='float16',
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=1.2e-3, betas=(0.9, 0.95), weight_decay=0.05, fused=True),
)
param_scheduler = dict(
    type='mmmim.ScheduleLR',
    by_epoch=False,
    schedule=dict(type='mmmim.epochwise_min_cosine', epochs=800, warmup_epochs=40),
)
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=500_000)

default_hooks = dict(
    target_ema=dict(type='mmmim.TargetEMAHook', momentum=dict(type='mmmim.linear', start=0.996, final=1.0)),
)
