# CAPI, table 1(a), model A7d26 or Aa5a3: fused encoder and predictor.
# Paper: k-NN mIoU on ADE20K 23.8, attentive probe on ImageNet-1k 73.1 (not run here).
# Our reading, as the details are published nowhere: a mask token stands in the place of every masked patch, and the
# prediction is what the 24 blocks of the encoder make of it.
_base_ = './vitl16.py'

model = dict(
    backbone=dict(fused=True),
    branches=dict(capi=dict(neck=dict(_delete_=True, type='mmmim.PickPredicted', context_dim=1024))),
)
