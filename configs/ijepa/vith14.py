# I-JEPA ViT-H/14 on ImageNet-1k, as the released config has it (arXiv 2301.08243): 300 epochs of 625 iterations, 40 of
# them warm-up from 2e-4, batch 2048, 128 on each of 16 GPUs (which the masks depend on, see vitb16.py).
#
# The paper's numbers: ImageNet-1k linear probing 79.3, fine-tuning with 1 % of the labels 73.3 (not run here).
#
# Run: tools/dist_train.sh configs/ijepa/vith14.py 16
_base_ = './vitb16.py'

model = dict(
    backbone=dict(patch_size=14, embed_dim=1280, depth=32, num_heads=16),
    branches=dict(
        latent=dict(
            target_generator=dict(in_dim=1280),
            neck=dict(context_dim=1280, depth=12, num_heads=16, out_dim=1280, grid=(16, 16)),
        )
    ),
)
train_dataloader = dict(collate_fn=dict(patch_size=14))
train_cfg = dict(max_iters=187_500)
param_scheduler = dict(lr=dict(schedule=dict(start=0.2, warmup_ratio=40 / 300)))
