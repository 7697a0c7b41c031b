# CAPI, table 1(i), model A72fb: Sinkhorn-Knopp over all tokens together.
# Paper: k-NN mIoU on ADE20K 28.5, attentive probe on ImageNet-1k 81.3 (not run here).
# All tokens depend on each other, so they are not processed in chunks: with 2 048 images a GPU, each of the two tensors
# of tokens x prototypes takes 26 GB (arithmetic, not measured).
_base_ = './vitl16.py'

model = dict(branches=dict(capi=dict(target_generator=dict(positional=False))))
