# data2vec ViT-L/16 on ImageNet-1k (arXiv 2202.03555), recipe of the released code: as vitb16.py with batch 4096 (312
# iterations are an epoch), learning rate 1e-3, 80 epochs of warm-up, layer scale 1e-5, stochastic depth 0.2 and dropout
# of attention 0.15.
#
# This is the first of two trainings in the released code: the second starts from its weights, with 40 epochs of warm-up
# and momentum 0.9999: --cfg-options init.source=work_dirs/vitl16/iter_249600.pth
# default_hooks.target_ema.momentum.value=0.9999 param_scheduler.schedule.warmup_ratio=0.05
#
# Run: tools/dist_train.sh configs/data2vec/vitl16.py 64
_base_ = './vitb16.py'

global_batch_size = 4096
auto_scale_lr = dict(base_batch_size=4096)

model = dict(
    backbone=dict(
        embed_dim=1024,
        depth=24,
        num_heads=16,
        layer_scale=1e-5,
        drop_path_rate=(0.0, 0.2),
        attn_drop_rate=0.15,
    ),
    branches=dict(
        latent=dict(
            target_generator=dict(in_dim=1024, layers=(18, 19, 20, 21, 22, 23)),
            neck=dict(context_dim=1024, out_dim=1024),
        )
    ),
)

optim_wrapper = dict(optimizer=dict(lr=1e-3))
param_scheduler = dict(schedule=dict(final=1e-5 / 1e-3, warmup_ratio=80 / 800))
train_cfg = dict(max_iters=249_600)
