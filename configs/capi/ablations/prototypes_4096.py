# CAPI, figure 6 (left): 4096 prototypes.
# Paper: k-NN mIoU on ADE20K 27.5, attentive probe on ImageNet-1k 80.7 (not run here).
_base_ = './vitl16.py'

model = dict(branches=dict(capi=dict(target_generator=dict(num_prototypes=4096), head=dict(num_prototypes=4096))))
