# ConMIM ViT-B/16 on ImageNet-1k (arXiv 2205.09616): 800 epochs of 625 iterations, batch 2048, 224 px. 37 of the 49
# units of 32 x 32 pixels are masked, 148 of the 196 patches.
#
# ImageNet-1k: fine-tuning 83.7, linear probing 39.3, as Latent MIM's paper (arXiv 2407.15837, table 12) reports them;
# the released code has the same number of fine-tuning. Not run here.
#
# Run: tools/dist_train.sh configs/conmim/vitb16.py 8
# `global_batch_size` is shared by all GPUs. If a GPU's part does not fit, set `model.micro_batch_size`: batch norm then
# sees a micro-batch at a time.
_base_ = [
    '../_base_/models/conmim_vitb16.py',
    '../_base_/datasets/imagenet_conmim.py',
    '../_base_/schedules/conmim.py',
]

global_batch_size = 2048
auto_scale_lr = dict(base_batch_size=2048)

train_dataloader = dict(
    collate_fn=dict(
        type='mmmim.MaskCollate', patch_size=16, masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75, unit=2)
    )
)
