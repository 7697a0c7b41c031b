# CAPI, figure 6 (left): 1024 prototypes.
# Paper: k-NN mIoU on ADE20K 14.9, attentive probe on ImageNet-1k 73.8 (not run here).
_base_ = './vitl16.py'

model = dict(branches=dict(capi=dict(target_generator=dict(num_prototypes=1024), head=dict(num_prototypes=1024))))
