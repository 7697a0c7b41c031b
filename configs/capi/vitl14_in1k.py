# CAPI ViT-L/14 on ImageNet-1k, otherwise the recipe of vitl14.py (arXiv 2502.08769, table 8, model M2d34).
# Paper: k-NN mIoU on ADE20K 29.2, attentive probe on ImageNet-1k 82.9 (not run here).
_base_ = './vitl14.py'

train_dataloader = dict(dataset=dict(dataset=dict(data_root='data/imagenet/train')))
