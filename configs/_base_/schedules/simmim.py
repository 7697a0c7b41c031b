# The recipe of SimMIM (arXiv 2111.09886) for ViT-B: AdamW, 800 epochs of 625 iterations with batch 2048, 10 of them
# warm-up, then a constant rate, a tenth of it from epoch 700 on; gradients clipped at 5. As in the released code, mask
# token and table of relative positions decay.
_base_ = './beit.py'

optim_wrapper = dict(
    clip_norm=5.0,
    # 1e-4 per 512 images.
    optimizer=dict(lr=4e-4),
    paramwise_cfg=dict(rules=dict(no_decay=dict(match=r'\.bias$|norm\d?\.weight$|scale\d\.weight$|extra_tokens$'))),
)
param_scheduler = dict(
    schedule=dict(
        _delete_=True, type='mmmim.multi_step', start=5e-3, warmup_ratio=10 / 800, milestones=[700 / 800], factor=0.1
    )
)
train_cfg = dict(max_iters=500_000)
