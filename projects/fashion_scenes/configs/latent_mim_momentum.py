# The second step of Latent MIM: the target encoder is the moving average of the online one.
_base_ = './latent_mim_patch_discrimination.py'

model = dict(branches=dict(latent=dict(head=dict(_delete_=True, type='mmmim.RegressionHead', loss='mse'))))
