# The linear probe of MAE (arXiv 2111.06377, appendix A.1): LARS, 0.1 per 256 images, batch 16 384, 90 epochs of which
# 10 warm up, a cosine to 0 in every iteration, no weight decay. The LARS is mmmim's: timm's gives biases a ratio, too,
# or with them the weights none, and is another one with weight decay.
_base_ = '../classification_runtime.py'

global_batch_size = 16_384

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(
        type='mmmim.LARS', lr=0.1 * 16_384 / 256, momentum=0.9, weight_decay=0.0, scaled='gradient', vectors=False
    ),
)
param_scheduler = dict(
    type='mmmim.ScheduleLR', by_epoch=False, schedule=dict(type='mmmim.warmup_cosine', warmup_ratio=10 / 90)
)
train_cfg = dict(type='mmmim.EpochsTrainLoop', max_epochs=90)
