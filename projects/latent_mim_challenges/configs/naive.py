# The first step, naive: one encoder, trained through the targets too; a self-attention decoder of three blocks.
_base_ = './momentum.py'

model = dict(
    branches=dict(latent=dict(target_generator=dict(encoder='student', stop_gradient=False))),
    teacher=None,
)
default_hooks = dict(target_ema=None)
