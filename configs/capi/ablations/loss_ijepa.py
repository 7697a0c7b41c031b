# CAPI, table 1(c), model A3bb3: the features of the teacher, compared by a Huber loss, as I-JEPA does.
# Paper: k-NN mIoU on ADE20K 23.7, attentive probe on ImageNet-1k 79.3 (not run here).
_base_ = './vitl16.py'

model = dict(
    branches=dict(
        capi=dict(
            target_generator=dict(_delete_=True, type='mmmim.LatentTarget', in_dim=1024),
            head=dict(_delete_=True, type='mmmim.RegressionHead', loss='huber'),
        )
    )
)
# No prototypes are trained apart from the student.
optim_wrapper = dict(paramwise_cfg=dict(rules=dict(clustering=None)))
