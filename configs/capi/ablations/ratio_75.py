# CAPI, table 1(e), model Ac8bc: 75 % of the patches are masked.
# Paper: k-NN mIoU on ADE20K 28.1, attentive probe on ImageNet-1k 81.2 (not run here).
_base_ = './vitl16.py'

train_dataloader = dict(collate_fn=dict(masking=dict(mask_ratio=0.75)))
