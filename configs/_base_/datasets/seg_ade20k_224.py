# ADE20K resized to squares of 224 pixels, for probes: 20 210 images to fit on, 2000 to test. Label 0 of the files is
# ignored. The folder is that of docs/en/dataset_prepare.md.
pipeline = [
    dict(type='mmmim.LoadImage'),
    dict(type='mmmim.LoadLabelMap'),
    # Images bicubic, label maps by nearest neighbours.
    dict(type='mmcv.Resize', scale=(224, 224), keep_ratio=False, interpolation='bicubic', backend='pillow'),
    dict(type='mmseg.PackSegInputs'),
]
fit_dataloader = dict(
    batch_size=64,
    num_workers=8,
    dataset=dict(
        type='mmseg.ADE20KDataset',
        data_root='data/ade/ADEChallengeData2016',
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        ignore_index=255,
        test_mode=True,
        pipeline=pipeline,
    ),
)
test_dataloader = dict(
    batch_size=64,
    num_workers=8,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmseg.ADE20KDataset',
        data_root='data/ade/ADEChallengeData2016',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        ignore_index=255,
        test_mode=True,
        pipeline=pipeline,
    ),
)
del pipeline  # not a key of the config
