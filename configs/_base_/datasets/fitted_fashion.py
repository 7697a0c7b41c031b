# FashionScenes for probes that are fitted on whole images; the same images as with fitted_images.py and
# MMMIM_DATA=fashion, loaded as it is fastest for small ones.
_base_ = ['./cls_fashion.py', '../pipelines/whole.py']

fit_dataloader = dict(
    batch_size=250,
    num_workers=0,
    dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline, test_mode=True),
)
test_dataloader = dict(
    batch_size=250,
    num_workers=0,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True),
)
