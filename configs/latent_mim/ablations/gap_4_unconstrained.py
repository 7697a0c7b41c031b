# Latent MIM, table 3: 20 of 196 patches visible, with a gap of 4 px.
# Paper, on ImageNet-100: nearest neighbour 54.6, linear probing 71.2, fine-tuning 88.0 (not run here).
_base_ = './patch_discrimination.py'

train_dataloader = dict(
    collate_fn=dict(gap=4, masking=dict(num_visible=20)),
)
_base_.train_dataloader.dataset.dataset.pipeline[1].scale = 280
