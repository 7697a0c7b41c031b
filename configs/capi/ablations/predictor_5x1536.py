# CAPI, table 1(f), model Af989: a predictor of 5 blocks of width 1536, with 16 heads as the encoder.
# Paper: k-NN mIoU on ADE20K 30.9, attentive probe on ImageNet-1k 81.5 (not run here).
_base_ = './vitl16.py'

model = dict(branches=dict(capi=dict(neck=dict(depth=5, embed_dim=1536), head=dict(in_dim=1536))))
