# I-JEPA ViT-B/16 on ImageNet-1k (arXiv 2301.08243, appendix A): 600 epochs of 625 iterations, batch 2048, 224 px, crops
# of 30 to 100 % of the area and no flip. No config of this model was released: this is the paper's text and what the
# released configs of ViT-H say of the rest.
#
# The paper's number: ImageNet-1k linear probing 72.9 (not run here).
# The numbers of PiLaMIM's paper (Lee et al., 2025, table 1) for 600 epochs of its own training, linear probing of
# pooled patches: ImageNet-1k 67.7, CIFAR10 86.3, CIFAR100 66.1, iNat2021 (mini) 27.7, Places365 45.3, Clevr/Count
# 71.6, Clevr/Dist 62.0; RankMe on CIFAR100 226.58 (not run here).
#
# Run: tools/dist_train.sh configs/ijepa/vitb16.py 16
# **The batch of one GPU is a hyper-parameter of the masks**: the reference trains with 128 images per GPU. All contexts
# of a GPU's batch are cut to the smallest of them, which leaves about 50 of 196 patches at 128 images; a single image
# would have 82. So use 16 GPUs for the masks of the reference; `model.micro_batch_size` saves memory and leaves masks
# as they are.
_base_ = [
    '../_base_/models/ijepa_vitb16.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/ijepa.py',
]

global_batch_size = 2048
auto_scale_lr = dict(base_batch_size=2048)

train_dataloader = dict(
    collate_fn=dict(
        type='mmmim.MaskCollate',
        patch_size=16,
        masking=dict(
            type='mmmim.MultiBlockMasking',
            num_targets=4,
            target_scale=(0.15, 0.2),
            target_aspect=(0.75, 1.5),
            num_contexts=1,
            context_scale=(0.85, 1.0),
            min_keep=10,
        ),
    ),
)
# A list is replaced as a whole, so it is changed where it stands.
_base_.train_dataloader.dataset.dataset.pipeline[1].update(crop_ratio_range=(0.3, 1.0), interpolation='bilinear')
del _base_.train_dataloader.dataset.dataset.pipeline[2]  # the flip
