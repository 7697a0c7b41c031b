# The recipe of data2vec 2.0 for ViT-B/16 in the released code (arXiv 2212.07525): AdamW, 375300 iterations with batch
# 256, 50040 of them warm-up, a cosine to 0, gradients clipped at 4; the momentum of the teacher grows linearly from
# 0.9998 to 0.99999 in 100000 iterations. CLS decays.
_base_ = './mae.py'

optim_wrapper = dict(clip_norm=4.0, optimizer=dict(lr=1e-3))
param_scheduler = dict(
    schedule=dict(_delete_=True, type='mmmim.warmup_cosine', start=0.0, warmup_ratio=50_040 / 375_300),
)
train_cfg = dict(max_iters=375_300)

# After the growth a cosine from a value to itself. The first update has the momentum of step 1.
default_hooks = dict(
    target_ema=dict(
        type='mmmim.TargetEMAHook',
        momentum=dict(
            type='mmmim.warmup_cosine',
            start=0.9998,
            base=0.99999,
            final=0.99999,
            warmup_ratio=100_000 / 375_300,
            first=1,
        ),
    ),
)
