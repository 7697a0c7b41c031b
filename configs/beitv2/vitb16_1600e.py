# As vitb16.py with 1600 epochs, 10 of them warm-up, stochastic depth 0.1 and a beta2 of 0.999. The two blocks of the
# neck have the rates of the tenth and eleventh of the encoder.
#
# ImageNet-1k: fine-tuning 85.5, ADE20K: fine-tuning (UPerNet) 53.1, as the released code reports them (not run here).
_base_ = './vitb16.py'

model = dict(
    backbone=dict(drop_path_rate=(0.0, 0.1)),
    branches=dict(tokens=dict(neck=dict(drop_path_rate=(0.1 * 9 / 11, 0.1 * 10 / 11)))),
)

optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999)))
param_scheduler = dict(schedule=dict(warmup_ratio=10 / 1600))
train_cfg = dict(max_iters=1_000_000)
