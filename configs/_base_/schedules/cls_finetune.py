# What recipes of fine-tuning have in common: AdamW with batch 1024, weight decay 0.05, rates that decay from block to
# block, a warm-up from 0 and a cosine in every iteration to 1e-6, times the factor of the block (MAE, arXiv
# 2111.06377).
_base_ = '../classification_runtime.py'

global_batch_size = 1024

optim_wrapper = dict(
    type='mmmim.OptimWrapper',
    dtype='bfloat16',
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(type='mmengine.AdamW', betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        # Norms, biases, position tables, tokens and scales of blocks, by their names in the encoders of mmmim, timm and
        # mmpretrain; tables of relative positions decay.
        rules=dict(
            no_decay=dict(
                match=r'bias$|(norm|ln|bn)\d?\.weight$|pos_embed|positions\.(?!table)|token|gamma|scale\d\.weight$',
                decay_mult=0.0,
            )
        ),
    ),
)
param_scheduler = dict(type='mmmim.ScheduleLR', by_epoch=False, schedule=dict(type='mmmim.warmup_cosine'))
train_cfg = dict(type='mmmim.EpochsTrainLoop')
