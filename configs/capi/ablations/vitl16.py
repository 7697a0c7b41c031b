# The model that the rows of table 1 and figure 6 of CAPI (arXiv 2502.08769) change in one respect each (table 8, models
# Adcab and Ae3f9): ViT-L/16 on ImageNet-22k, 100 000 iterations of batch 16 384, learning rate 2e-3 (clustering 1e-3),
# momentum from 0.996. Every file here holds only what its row changes.
# Paper: k-NN mIoU on ADE20K 29.1, attentive probe on ImageNet-1k 81.4 (not run here).
_base_ = '../vitl14.py'

model = dict(backbone=dict(patch_size=16))
# Table 6 says 7, and table 8, which lists all that is not constant, does not.
train_dataloader = dict(collate_fn=dict(patch_size=16, masking=dict(predict_ratio=None, num_predicted=7)))
optim_wrapper = dict(optimizer=dict(lr=2e-3))
train_cfg = dict(max_iters=100_000)
default_hooks = dict(target_ema=dict(momentum=dict(base=0.996)))
