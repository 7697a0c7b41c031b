# The recipe of data2vec for ViT-B/16 in the released code (arXiv 2202.03555): AdamW, 800 epochs of 625 iterations with
# batch 2048, 10 of them warm-up from 0 to 2e-3, a cosine to 1e-5, gradients clipped at 3. The mask token and the table
# of relative positions decay. The momentum of the teacher is constant.
_base_ = './beit.py'

optim_wrapper = dict(
    optimizer=dict(lr=2e-3),
    paramwise_cfg=dict(rules=dict(no_decay=dict(match=r'\.bias$|norm\d?\.weight$|scale\d\.weight$|extra_tokens$'))),
)
param_scheduler = dict(schedule=dict(start=0.0, final=1e-5 / 2e-3, warmup_ratio=10 / 800))
train_cfg = dict(max_iters=500_000)

default_hooks = dict(target_ema=dict(type='mmmim.TargetEMAHook', momentum=dict(type='mmmim.constant', value=0.9998)))
