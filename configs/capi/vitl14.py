# CAPI ViT-L/14 on ImageNet-22k, the recipe of the paper (arXiv 2502.08769, tables 6 and 8, model M5e2e).
#
# Batch 16 384, 500 000 iterations of one optimiser step each, at 224 px. The paper's numbers with these weights:
# k-NN mIoU on ADE20K 29.7, attentive probe on ImageNet-1k 83.6 (not run here).
#
# Run: tools/dist_train.sh configs/capi/vitl14.py 8
# `global_batch_size` is shared by all GPUs, however many; each GPU's part passes through the student in micro-batches
# of `model.micro_batch_size` images. Sinkhorn-Knopp balances over the images of all GPUs; on fewer than 8, give its
# `chunk_positions` less if memory is short.
_base_ = [
    '../_base_/models/capi_vitl14.py',
    '../_base_/datasets/imagenet22k.py',
    '../_base_/schedules/capi.py',
]

global_batch_size = 16384
auto_scale_lr = dict(base_batch_size=16384)

train_dataloader = dict(
    collate_fn=dict(
        type='mmmim.MaskCollate',
        patch_size=14,
        masking=dict(type='mmmim.InverseBlockMasking', mask_ratio=0.65, predict_ratio=0.05, roll=True),
    )
)
