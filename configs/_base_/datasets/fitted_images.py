# Whole images of any data set for probes that are fitted without augmentation: ImageNet-1k, or the data set of
# docs/en/dataset_prepare.md#classification that an environment variable names, MMMIM_DATA=cifar100.
#
# Images are the central 224 px (eval224.py), but for those of small or rendered images, which PiLaMIM's released code
# takes as a whole (square224.py), and FashionScenes.
_base_ = [
    './cls_{{$MMMIM_DATA:imagenet}}.py',
    '../pipelines/'
    + dict(
        cifar10='square224',
        cifar100='square224',
        clevr_count='square224',
        clevr_distance='square224',
        fashion='whole',
    ).get('{{$MMMIM_DATA:imagenet}}', 'eval224')
    + '.py',
]

fit_dataloader = dict(
    batch_size=128,
    num_workers=8,
    dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline, test_mode=True),
)
test_dataloader = dict(
    batch_size=128,
    num_workers=8,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True),
)
