# CAPI, table 1(g), model A9ce8: no registers.
# Paper: k-NN mIoU on ADE20K 25.9, attentive probe on ImageNet-1k 79.3 (not run here).
_base_ = './vitl16.py'

model = dict(backbone=dict(num_registers=0))
