# The fifth step, the whole of Latent MIM: cross-attention decoder with visual cues, and a projector.
_base_ = '../../../configs/latent_mim/digits.py'

train_cfg = dict(max_iters=300)
default_hooks = dict(checkpoint=dict(interval=300))
