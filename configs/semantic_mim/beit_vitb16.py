# SemanticMIM on BEiT, ViT-B/16 on ImageNet-1k (arXiv 2406.10673, table 1): 300 epochs of 625 iterations, batch 2048,
# 224 px, 8 proxies, 78 of the 196 patches visible (60 % random masks).
#
# The paper's numbers: ImageNet-1k linear probing of the proxies 49.2, of patches 48.2, fine-tuning 83.0 and 82.9,
# PascalVOC linear segmentation 43.1, ADE20K 44.1 (not run here).
#
# Run: tools/dist_train.sh configs/semantic_mim/beit_vitb16.py 8
# It needs the file model.branches.semantic.target_generator.tokenizer.weights. `global_batch_size` is shared by all
# GPUs. If a GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = [
    '../_base_/models/semantic_mim_beit_vitb16.py',
    '../_base_/datasets/imagenet_beit.py',
    '../_base_/schedules/beit.py',
]

global_batch_size = 2048
auto_scale_lr = dict(base_batch_size=2048)

train_dataloader = dict(
    collate_fn=dict(type='mmmim.MaskCollate', patch_size=16, masking=dict(type='mmmim.UniformMasking', num_visible=78))
)
