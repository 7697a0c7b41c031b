# CrossMAE ViT-B/16 on ImageNet-1k (arXiv 2401.14391): 800 epochs of 312 iterations, batch 4096, 224 px. All masked
# patches are predicted. For a third of them, 25 % of all: `train_dataloader.collate_fn.masking.num_predicted=49` and,
# as the released code scales the rate with that share, `optim_wrapper.optimizer.lr=8e-4`.
#
# The number of the released code: ImageNet-1k fine-tuning 83.7 (not run here).
#
# Run: tools/dist_train.sh configs/crossmae/vitb16.py 8
# `global_batch_size` is shared by all GPUs. If a GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = [
    '../_base_/models/crossmae_vitb16.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/crossmae.py',
]

global_batch_size = 4096
auto_scale_lr = dict(base_batch_size=4096)

train_dataloader = dict(
    collate_fn=dict(type='mmmim.MaskCollate', patch_size=16, masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75))
)
