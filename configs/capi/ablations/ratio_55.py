# CAPI, table 1(e), model A41b8: 55 % of the patches are masked.
# Paper: k-NN mIoU on ADE20K 28.0, attentive probe on ImageNet-1k 81.1 (not run here).
_base_ = './vitl16.py'

train_dataloader = dict(collate_fn=dict(masking=dict(mask_ratio=0.55)))
