# data2vec 2.0 ViT-B/16 on ImageNet-1k (arXiv 2212.07525): 375300 iterations, batch 256 (75 epochs), 224 px, 16 masks of
# every image, each of which leaves 39 of the 196 patches visible.
#
# Run: tools/dist_train.sh configs/data2vec2/vitb16.py 16
# The student sees 16 x `global_batch_size` masked images in a step. If a GPU's part does not fit, set
# `model.micro_batch_size`.
_base_ = [
    '../_base_/models/data2vec2_vitb16.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/data2vec2.py',
]

global_batch_size = 256
auto_scale_lr = dict(base_batch_size=256)

train_dataloader = dict(
    collate_fn=dict(
        type='mmmim.MaskCollate',
        patch_size=16,
        masking=dict(type='mmmim.InverseBlocksMasking', num_visible=39, num_blocks=5, block=3, masks_per_image=16),
    )
)
