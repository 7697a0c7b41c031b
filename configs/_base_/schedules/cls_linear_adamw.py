# The linear probe of SemanticMIM (arXiv 2406.10673, table 5): AdamW, learning rate 4e-3 with batch 1024, 100 epochs of
# a cosine to 0 in every iteration without warm-up; weight and bias decay by 1e-4.
_base_ = '../classification_runtime.py'

global_batch_size = 1024

optim_wrapper = dict(
    type='mmmim.OptimWrapper',
    dtype=None,
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=4e-3, betas=(0.9, 0.999), weight_decay=1e-4, fused=True),
)
param_scheduler = dict(
    type='mmmim.ScheduleLR', by_epoch=False, schedule=dict(type='mmmim.cosine', start=1.0, final=0.0)
)
train_cfg = dict(type='mmmim.EpochsTrainLoop', max_epochs=100)
