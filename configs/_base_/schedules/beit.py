# The recipe of BEiT in SemanticMIM (arXiv 2406.10673, table 2), with and without proxies: AdamW, 300 epochs of 625
# iterations with batch 2048, 10 of them warm-up, a cosine to 1e-5, gradients clipped at 3. As in the released code,
# of the learned vectors only the mask token decays.
_base_ = '../default_runtime.py'

optim_wrapper = dict(
    type='mmmim.OptimWrapper',
    dtype='bfloat16',
    clip_norm=3.0,
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=1.5e-3, betas=(0.9, 0.999), weight_decay=0.05, fused=True),
    paramwise_cfg=dict(
        rules=dict(
            no_decay=dict(match=r'\.bias$|norm\d?\.weight$|scale\d\.weight$|extra_tokens$|positions\.', decay_mult=0.0)
        )
    ),
)
param_scheduler = dict(
    type='mmmim.ScheduleLR',
    by_epoch=False,
    schedule=dict(type='mmmim.truncated_cosine', start=1e-4, final=1e-5 / 1.5e-3, warmup_ratio=1 / 30, truncation=1.0),
)
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=187_500)
