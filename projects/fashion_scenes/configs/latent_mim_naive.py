# The first step of Latent MIM, naive: one encoder, trained through the targets too.
_base_ = './latent_mim_momentum.py'

model = dict(
    branches=dict(latent=dict(target_generator=dict(encoder='student', stop_gradient=False))),
    teacher=None,
)
default_hooks = dict(target_ema=None)
