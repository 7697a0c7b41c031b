# CAPI, table 1(d), model A74f9: crops of the whole image.
# Paper: k-NN mIoU on ADE20K 27.9, attentive probe on ImageNet-1k 81.4 (not run here).
_base_ = './vitl16.py'
_base_.train_dataloader.dataset.dataset.pipeline[1].crop_ratio_range = (1.0, 1.0)
