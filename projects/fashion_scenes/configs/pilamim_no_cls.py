# PiLaMIM's table 2: CLS is not predicted.
_base_ = '../../../configs/pilamim/small.py'

model = dict(
    branches=dict(latent=dict(neck=dict(predict_cls=False), head=dict(_delete_=True, type='mmmim.RegressionHead')))
)
