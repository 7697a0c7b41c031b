# Few-shot transfer of Latent MIM (arXiv 2407.15837, table 7): SGD, learning rate 0.1 with batch 128, 2500 iterations.
# Our choices: a cosine to 0, no weight decay.
_base_ = '../classification_runtime.py'

global_batch_size = 128

optim_wrapper = dict(
    type='mmmim.OptimWrapper',
    dtype=None,
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(type='mmengine.SGD', lr=0.1, momentum=0.9, weight_decay=0.0, fused=True),
)
param_scheduler = dict(
    type='mmmim.ScheduleLR', by_epoch=False, schedule=dict(type='mmmim.cosine', start=1.0, final=0.0)
)
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=2500, val_interval=2500)
default_hooks = dict(checkpoint=dict(interval=2500, save_best=None))
