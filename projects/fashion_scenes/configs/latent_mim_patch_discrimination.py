# The third step of Latent MIM: patch discrimination instead of the mean squared error; a quarter of contiguous patches
# is visible.
_base_ = './latent_mim_correlation.py'

mask_collate = dict(gap=0, masking=dict(num_visible=16))
pipeline = [
    dict(type='mmmim.LoadImage'),
    dict(type='mmmim.RandomResizedCrop', scale=32, crop_ratio_range=(0.6, 1.0), interpolation='bicubic'),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
model = dict(
    branches=dict(latent=dict(head=dict(_delete_=True, type='mmmim.PatchDiscriminationHead', temperature=0.2)))
)
train_dataloader = dict(collate_fn=mask_collate, dataset=dict(dataset=dict(pipeline=pipeline)))
default_hooks = dict(similarity=None)
