# CAPI, figure 6 (left): 8192 prototypes.
# Paper: k-NN mIoU on ADE20K 28.5, attentive probe on ImageNet-1k 81.3 (not run here).
_base_ = './vitl16.py'

model = dict(branches=dict(capi=dict(target_generator=dict(num_prototypes=8192), head=dict(num_prototypes=8192))))
