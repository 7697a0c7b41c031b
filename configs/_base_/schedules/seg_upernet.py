# The recipe of UPerNet on ADE20K in SemanticMIM (arXiv 2406.10673, table 4), which is BEiT's: AdamW, 160k iterations,
# 1500 of them warm-up, then linearly to 0; the rates of blocks decay by 0.9 per block from the last to the first.
_base_ = '../segmentation_runtime.py'

optim_wrapper = dict(
    type='mmmim.OptimWrapper',
    dtype='bfloat16',
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=3e-5, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        layer_decay=0.9,
        # Names in the encoders of mmmim, timm and mmpretrain, and in the heads: norms, biases, position tables, tokens
        # and scales of blocks. 4x.1 is the norm of the pyramid.
        rules=dict(
            no_decay=dict(
                match=r'bias|(norm|ln|bn)\d?\.weight$|4x\.1\.weight$|pos_embed|positions\.(?!table)|token|gamma|scale\d\.weight$',
                decay_mult=0.0,
            )
        ),
    ),
)
param_scheduler = dict(
    warmup=dict(type='mmengine.LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    decay=dict(type='mmengine.PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500),
)
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=160_000, val_interval=16_000)
default_hooks = dict(checkpoint=dict(interval=16_000))
