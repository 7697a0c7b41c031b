# The recipe of CrossMAE (arXiv 2401.14391): that of MAE with 800 epochs, 40 of them warm-up. As in the released code,
# weights of mixtures decay.
_base_ = './mae.py'

optim_wrapper = dict(paramwise_cfg=dict(rules=dict(no_decay=dict(match=r'\.bias$|norm\w*(\.\d+)?\.weight$'))))
param_scheduler = dict(schedule=dict(warmup_ratio=0.05))
train_cfg = dict(max_iters=249_600)
