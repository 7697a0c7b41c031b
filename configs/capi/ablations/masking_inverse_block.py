# CAPI, table 1(b), model A7cc0: a block of patches is visible, not rolled.
# Paper: k-NN mIoU on ADE20K 27.2, attentive probe on ImageNet-1k 80.7 (not run here).
_base_ = './vitl16.py'

train_dataloader = dict(collate_fn=dict(masking=dict(roll=False)))
