# CAPI, figure 6 (center), model Abe05: 25 000 iterations.
# The paper shows it in a figure, without numbers (not run here).
_base_ = './vitl16.py'

train_cfg = dict(max_iters=25_000)
