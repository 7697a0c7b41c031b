# The second step: the target encoder is the moving average of the online one.
_base_ = './patch_discrimination.py'

model = dict(branches=dict(latent=dict(head=dict(_delete_=True, type='mmmim.RegressionHead', loss='mse'))))
