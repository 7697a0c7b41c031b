# CAPI, figure 6 (left): 2048 prototypes.
# Paper: k-NN mIoU on ADE20K 19.8, attentive probe on ImageNet-1k 77.4 (not run here).
_base_ = './vitl16.py'

model = dict(branches=dict(capi=dict(target_generator=dict(num_prototypes=2048), head=dict(num_prototypes=2048))))
