# Linear segmentation of whole data sets, our recipe, in the manner of DINOv2's (arXiv 2304.07193): AdamW, 40k
# iterations, 1500 of them warm-up, then linearly to 0. fp32: features of training and test are the same.
_base_ = '../segmentation_runtime.py'

optim_wrapper = dict(
    type='mmmim.OptimWrapper',
    dtype=None,
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-4, fused=True),
)
param_scheduler = dict(
    warmup=dict(type='mmengine.LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    decay=dict(type='mmengine.PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500),
)
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=40_000, val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
