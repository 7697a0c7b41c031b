# CAPI ViT-L/14 on Places205, otherwise the recipe of vitl14.py (arXiv 2502.08769, table 8, model M8319).
# Paper: k-NN mIoU on ADE20K 35.2, attentive probe on ImageNet-1k 79.2 (not run here).
_base_ = './vitl14.py'

train_dataloader = dict(dataset=dict(dataset=dict(data_root='data/places205/train')))
