# BEiT v2 ViT-B/16 on ImageNet-1k (arXiv 2208.06366): 300 epochs of 625 iterations, batch 2048, 224 px, 75 of the 196
# patches masked in blocks.
#
# ImageNet-1k: fine-tuning 85.0, as mmpretrain reports it for this recipe (not run here).
#
# Run: tools/dist_train.sh configs/beitv2/vitb16.py 8
# It needs the file model.branches.tokens.target_generator.tokenizer.weights. `global_batch_size` is shared by all GPUs.
# If a GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = [
    '../_base_/models/beitv2_vitb16.py',
    '../_base_/datasets/imagenet_beitv2.py',
    '../_base_/schedules/beitv2.py',
]

global_batch_size = 2048
auto_scale_lr = dict(base_batch_size=2048)

# Masks may reach the last row and column, as in the authors' code; there a draw that finds no place for a block ends
# with fewer than 75 patches (74.5 on average), here it goes on.
train_dataloader = dict(
    collate_fn=dict(
        type='mmmim.MaskCollate',
        patch_size=16,
        masking=dict(type='mmmim.BEiTMasking', num_visible=121, whole_grid=True),
    )
)
