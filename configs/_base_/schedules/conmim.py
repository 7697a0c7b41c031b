# The recipe of ConMIM (arXiv 2205.09616) for ViT-B: AdamW, 800 epochs of 625 iterations with batch 2048, 10 of them
# warm-up, a cosine to 1e-5, no clipping; the momentum of the teacher follows a cosine to 1.
_base_ = './beit.py'

optim_wrapper = dict(
    clip_norm=None,
    optimizer=dict(lr=7.5e-4, betas=(0.9, 0.98)),
    # Norms of the projector are `norms.0` and `norms.1`; the mask token and the table of relative positions decay.
    paramwise_cfg=dict(
        rules=dict(no_decay=dict(match=r'\.bias$|norm\d?\.weight$|norms\.\d\.weight$|scale\d\.weight$|extra_tokens$'))
    ),
)
param_scheduler = dict(schedule=dict(final=1e-5 / 7.5e-4, warmup_ratio=10 / 800))
train_cfg = dict(max_iters=500_000)

default_hooks = dict(
    target_ema=dict(type='mmmim.TargetEMAHook', momentum=dict(type='mmmim.cosine', start=0.996, final=1.0))
)
