# MAE ViT-B/16 on ImageNet-1k with 800 epochs of 625 iterations, batch 2048: the baseline of PiLaMIM (Lee et al., 2025,
# table 1), with the settings of its appendix A.5. Pixels are not normalised (appendix A.4), unlike in MAE.
#
# The numbers of PiLaMIM's paper, linear probing of CLS: ImageNet-1k 61.1, CIFAR10 86.7, CIFAR100 66.0, iNat2021 (mini)
# 25.8, Places365 44.2, Clevr/Count 76.6, Clevr/Dist 65.0; RankMe on CIFAR100 217.80 (not run
# here).
_base_ = './vitb16.py'

global_batch_size = 2048
auto_scale_lr = dict(base_batch_size=2048)

model = dict(branches=dict(pixels=dict(target_generator=dict(normalize=False))))

optim_wrapper = dict(optimizer=dict(lr=1.2e-3))
param_scheduler = dict(schedule=dict(warmup_ratio=0.05))
train_cfg = dict(max_iters=500_000)
