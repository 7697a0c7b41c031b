# SemanticMIM on MaskFeat, ViT-B/16 on ImageNet-1k (arXiv 2406.10673, table 1): 300 epochs of 625 iterations, batch
# 2048, 224 px, 8 proxies, 78 of the 196 patches visible (60 % random masks).
#
# The paper's numbers: ImageNet-1k linear probing of the proxies 52.0, of patches 59.7, fine-tuning 83.7 and 83.6,
# PascalVOC linear segmentation 49.5, ADE20K 45.7 (not run here).
#
# Run: tools/dist_train.sh configs/semantic_mim/maskfeat_vitb16.py 8
# `global_batch_size` is shared by all GPUs. If a GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = [
    '../_base_/models/semantic_mim_maskfeat_vitb16.py',
    '../_base_/datasets/imagenet_maskfeat.py',
    '../_base_/schedules/maskfeat.py',
]

global_batch_size = 2048
auto_scale_lr = dict(base_batch_size=2048)

train_dataloader = dict(
    collate_fn=dict(type='mmmim.MaskCollate', patch_size=16, masking=dict(type='mmmim.UniformMasking', num_visible=78))
)
