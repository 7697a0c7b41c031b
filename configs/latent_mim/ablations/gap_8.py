# Latent MIM, table 11(a): a gap of 8 px.
# Paper, on ImageNet-100: nearest neighbour 63.6, linear probing 75.9, fine-tuning 89.2 (not run here).
_base_ = '../vitb16_in100.py'

train_dataloader = dict(
    collate_fn=dict(gap=8),
)
_base_.train_dataloader.dataset.dataset.pipeline[1].scale = 336
