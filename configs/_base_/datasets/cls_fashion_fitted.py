# FashionScenes with one garment at 32 px and its class, for probes of whole images: 9000 images to fit on, 2000 to
# test. Written on first use, see docs/en/dataset_prepare.md.
pipeline = [dict(type='mmmim.LoadImage'), dict(type='mmpretrain.PackInputs')]
fit_dataloader = dict(
    batch_size=250,
    num_workers=0,
    dataset=dict(
        type='mmmim.FashionScenes',
        data_root='data/fashion_scenes',
        subset='single',
        split='train',
        test_mode=True,
        pipeline=pipeline,
    ),
)
test_dataloader = dict(
    batch_size=250,
    num_workers=0,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmim.FashionScenes',
        data_root='data/fashion_scenes',
        subset='single',
        split='test',
        test_mode=True,
        pipeline=pipeline,
    ),
)
del pipeline  # not a key of the config
