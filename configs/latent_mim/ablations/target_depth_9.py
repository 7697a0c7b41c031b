# Latent MIM, table 10: the target encoder has 9 blocks, the decoder 4.
# Paper, on ImageNet-100: nearest neighbour 53.6, linear probing 75.8, fine-tuning 89.4 (not run here).
# Its blocks, final norm and projector are the moving averages of the online encoder's: our reading.
_base_ = '../vitb16_in100.py'

model = dict(branches=dict(latent=dict(target_generator=dict(depth=9), neck=dict(depth=4))))
