# DINO's masks (arXiv 2104.14294), a baseline of LOST: the patches that hold 60 % of the attention of CLS in one head of
# the last block. The head is the released code's; encoders without CLS take test_cfg.probe.attention=mean.
_base_ = './discovery.py'

test_cfg = dict(probe=dict(type='mmmim.DINOSeg', attention='cls', head=4, mass=0.6))
