# CAPI, table 1(c), model A2fcb: the teacher's head is the EMA of the student's, an MLP, as in iBOT.
# Paper: k-NN mIoU on ADE20K 1.7, attentive probe on ImageNet-1k 11.1 (not run here).
# Targets by positional Sinkhorn-Knopp, cross-entropy, no centring. The MLP's widths are DINO's, and the temperatures
# CAPI's: our reading.
_base_ = './vitl16.py'

model = dict(
    branches=dict(
        capi=dict(
            target_generator=dict(
                _delete_=True,
                type='mmmim.TeacherAssignments',
                head='branches.capi.head',
                num_prototypes=16384,
                chunk_positions=8,
            ),
            head=dict(mlp_dims=(2048, 2048, 256)),
        )
    )
)
# No prototypes are trained apart from the student.
optim_wrapper = dict(paramwise_cfg=dict(rules=dict(clustering=None)))
