# PiLaMIM as the released code trains it, where it differs from the paper: the target of a predicted patch is the latent
# of a random patch of the image (the target encoder's permutation is never undone), the teacher starts with weights of
# its own, and losses are divided by the nominal share of masked patches (with 147 of 196 the same as their number).
#
# Which of the two gave the paper's numbers is not known, so none are claimed for this config. Not run here.
_base_ = './vitb16.py'

model = dict(
    branches=dict(
        pixels=dict(head=dict(nominal_ratio=0.75)),
        latent=dict(target_generator=dict(aligned=False), head=dict(heads=dict(patches=dict(nominal_ratio=0.75)))),
    ),
    teacher_init='own',
)
