# Table 2 of PiLaMIM (Lee et al., 2025): CLS is not predicted.
_base_ = '../../../configs/pilamim/digits.py'

model = dict(
    branches=dict(latent=dict(neck=dict(predict_cls=False), head=dict(_delete_=True, type='mmmim.RegressionHead')))
)
