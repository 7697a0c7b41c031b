# CAPI, table 1(f), model A2da0: a predictor of 21 blocks of width 768, with 16 heads as the encoder.
# Paper: k-NN mIoU on ADE20K 28.3, attentive probe on ImageNet-1k 81.3 (not run here).
_base_ = './vitl16.py'

model = dict(branches=dict(capi=dict(neck=dict(depth=21, embed_dim=768), head=dict(in_dim=768))))
