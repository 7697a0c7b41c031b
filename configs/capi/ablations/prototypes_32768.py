# CAPI, figure 6 (left): 32768 prototypes.
# Paper: k-NN mIoU on ADE20K 29.1, attentive probe on ImageNet-1k 81.7 (not run here).
_base_ = './vitl16.py'

model = dict(branches=dict(capi=dict(target_generator=dict(num_prototypes=32768), head=dict(num_prototypes=32768))))
