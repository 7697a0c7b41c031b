# The probes of CAPI (arXiv 2502.08769, appendix, and its released code): AdamW, 12 500 iterations with batch 1024,
# rates per 256 images; a warm-up of a tenth and a cosine to 0, both with both ends.
_base_ = '../classification_runtime.py'

global_batch_size = 1024

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    constructor='mmmim.SweepOptimWrapperConstructor',
    # Of all rates; it goes with the batch.
    optimizer=dict(type='mmmim.HeadAdamW', lr=1024 / 256, betas=(0.9, 0.95)),
)
param_scheduler = dict(
    type='mmmim.ScheduleLR', by_epoch=False, schedule=dict(type='mmmim.closed_cosine', warmup_ratio=0.1)
)
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=12_500, val_interval=1250)
# Of each source the best head on val_dataloader is tested.
test_cfg = dict(type='mmmim.ChoosingTestLoop')
# The heads of the last step count: none of an earlier one is kept.
default_hooks = dict(checkpoint=dict(interval=1250, save_best=None))
