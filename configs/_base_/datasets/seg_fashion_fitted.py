# FashionScenes with one garment at 32 px for probes, background and ten kinds of garments: the first 1000 images of the
# training split to fit on, the first 1000 of the test split to test. Written on first use, see
# docs/en/dataset_prepare.md.
custom_imports = dict(imports=['mmmim.datasets.fashion_scenes_segmentation'])

pipeline = [
    dict(type='mmmim.LoadImage'),
    dict(type='mmmim.LoadLabelMap'),
    dict(type='mmseg.PackSegInputs'),
]
fit_dataloader = dict(
    batch_size=250,
    num_workers=0,
    dataset=dict(
        type='mmmim.FashionScenesSegmentation',
        data_root='data/fashion_scenes',
        subset='single',
        split='train',
        indices=1000,
        ignore_index=255,
        test_mode=True,
        pipeline=pipeline,
    ),
)
test_dataloader = dict(
    batch_size=250,
    num_workers=0,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmim.FashionScenesSegmentation',
        data_root='data/fashion_scenes',
        subset='single',
        split='test',
        indices=1000,
        ignore_index=255,
        test_mode=True,
        pipeline=pipeline,
    ),
)
del pipeline  # not a key of the config
