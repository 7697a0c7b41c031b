# SimMIM ViT-B/16 on ImageNet-1k (arXiv 2111.09886): 800 epochs of 625 iterations, batch 2048, 224 px. 30 of the 49
# units of 32 x 32 pixels are masked, 120 of the 196 patches.
#
# The number of the released code: ImageNet-1k fine-tuning 83.8 (not run here).
#
# Run: tools/dist_train.sh configs/simmim/vitb16.py 8
# `global_batch_size` is shared by all GPUs. If a GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = [
    '../_base_/models/simmim_vitb16.py',
    '../_base_/datasets/imagenet_simmim.py',
    '../_base_/schedules/simmim.py',
]

global_batch_size = 2048
auto_scale_lr = dict(base_batch_size=2048)

train_dataloader = dict(
    collate_fn=dict(
        type='mmmim.MaskCollate', patch_size=16, masking=dict(type='mmmim.UniformMasking', mask_ratio=0.6, unit=2)
    )
)
