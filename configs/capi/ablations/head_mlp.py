# CAPI, table 1(c), model Aeb48: an MLP before the prototypes of the student.
# Paper: k-NN mIoU on ADE20K 26.4, attentive probe on ImageNet-1k 80.8 (not run here).
# The MLP's widths are DINO's: our reading.
_base_ = './vitl16.py'

model = dict(branches=dict(capi=dict(head=dict(mlp_dims=(2048, 2048, 256)))))
