# CAPI, figure 6 (center), model Acd44: 50 000 iterations.
# The paper shows it in a figure, without numbers (not run here).
_base_ = './vitl16.py'

train_cfg = dict(max_iters=50_000)
