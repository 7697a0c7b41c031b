# Latent MIM, table 10: the target encoder has 3 blocks, the decoder 5.
# Paper, on ImageNet-100: nearest neighbour 52.7, linear probing 74.3, fine-tuning 88.7 (not run here).
# Its blocks, final norm and projector are the moving averages of the online encoder's: our reading.
_base_ = '../vitb16_in100.py'

model = dict(branches=dict(latent=dict(target_generator=dict(depth=3), neck=dict(depth=5))))
