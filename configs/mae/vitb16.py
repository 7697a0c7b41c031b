# MAE ViT-B/16 on ImageNet-1k (arXiv 2111.06377, appendix A): 1600 epochs of 312 iterations, batch 4096, 224 px.
#
# The paper's numbers: ImageNet-1k fine-tuning 83.6, linear probing 68.0 (not run here).
#
# Run: tools/dist_train.sh configs/mae/vitb16.py 8
# `global_batch_size` is shared by all GPUs. If a GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = [
    '../_base_/models/mae_vitb16.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/mae.py',
]

global_batch_size = 4096
auto_scale_lr = dict(base_batch_size=4096)

train_dataloader = dict(
    collate_fn=dict(type='mmmim.MaskCollate', patch_size=16, masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75))
)
