# CAPI, figure 6 (right), model Aa428: trained on LVD-142M.
# Paper: k-NN mIoU on ADE20K 30.6, attentive probe on ImageNet-1k 81.2 (not run here).
# LVD-142M is private: put a folder of your own images there, or set data_root.
_base_ = './vitl16.py'

train_dataloader = dict(dataset=dict(dataset=dict(data_root='data/lvd142m')))
