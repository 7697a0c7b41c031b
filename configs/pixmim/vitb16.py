# PixMIM ViT-B/16 on ImageNet-1k (arXiv 2303.02416): MAE's config with the two changes of the paper, targets without
# high frequencies and crops that show nearly all of an object. What is not among these, such as 1600 epochs, is MAE's.
#
# The cut-off, 40 cycles per side, is our choice. No number of the paper stands here, and nothing was run here.
#
# Run: tools/dist_train.sh configs/pixmim/vitb16.py 8
# `global_batch_size` is shared by all GPUs. If a GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = [
    '../_base_/models/mae_vitb16.py',
    '../_base_/datasets/imagenet_crop.py',
    '../_base_/schedules/mae.py',
]

global_batch_size = 4096
auto_scale_lr = dict(base_batch_size=4096)

model = dict(branches=dict(pixels=dict(target_generator=dict(low_pass=40))))

train_dataloader = dict(
    collate_fn=dict(type='mmmim.MaskCollate', patch_size=16, masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75))
)
