# CAPI, table 1(d), model Ae7b3: crops of 20 to 100 % of the image.
# Paper: k-NN mIoU on ADE20K 28.9, attentive probe on ImageNet-1k 80.9 (not run here).
_base_ = './vitl16.py'
_base_.train_dataloader.dataset.dataset.pipeline[1].crop_ratio_range = (0.2, 1.0)
