# BEiT ViT-B/16 on ImageNet-1k, the baseline of SemanticMIM (arXiv 2406.10673, table 1): 300 epochs of 625 iterations,
# batch 2048, 224 px, one CLS token, 117 of the 196 patches visible (40 % random masks).
#
# The numbers of SemanticMIM's paper: ImageNet-1k linear probing of CLS 31.5, of patches 38.7, fine-tuning 81.9 and
# 82.2, PascalVOC linear segmentation 23.8, ADE20K 40.2 (not run here).
#
# Run: tools/dist_train.sh configs/beit/vitb16.py 8
# It needs the file model.branches.tokens.target_generator.tokenizer.weights. `global_batch_size` is shared by all GPUs.
# If a GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = [
    '../_base_/models/beit_vitb16.py',
    '../_base_/datasets/imagenet_beit.py',
    '../_base_/schedules/beit.py',
]

global_batch_size = 2048
auto_scale_lr = dict(base_batch_size=2048)

train_dataloader = dict(
    collate_fn=dict(type='mmmim.MaskCollate', patch_size=16, masking=dict(type='mmmim.UniformMasking', num_visible=117))
)
