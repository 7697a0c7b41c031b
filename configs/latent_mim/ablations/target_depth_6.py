# Latent MIM, table 10: the target encoder has 6 blocks, the decoder 4.
# Paper, on ImageNet-100: nearest neighbour 52.7, linear probing 74.8, fine-tuning 88.9 (not run here).
# Its blocks, final norm and projector are the moving averages of the online encoder's: our reading.
_base_ = '../vitb16_in100.py'

model = dict(branches=dict(latent=dict(target_generator=dict(depth=6), neck=dict(depth=4))))
