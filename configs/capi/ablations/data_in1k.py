# CAPI, figure 6 (right), model Aab94: trained on ImageNet-1k.
# Paper: k-NN mIoU on ADE20K 28.0, attentive probe on ImageNet-1k 81.7 (not run here).
_base_ = './vitl16.py'

train_dataloader = dict(dataset=dict(dataset=dict(data_root='data/imagenet/train')))
