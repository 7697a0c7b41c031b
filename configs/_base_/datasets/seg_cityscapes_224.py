# Cityscapes resized to squares of 224 pixels, for probes: 2975 images to fit on, 500 to test, 19 classes. Other labels
# (255) are ignored. The folder is that of docs/en/dataset_prepare.md.
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
        type='mmseg.CityscapesDataset',
        data_root='data/cityscapes',
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
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
        type='mmseg.CityscapesDataset',
        data_root='data/cityscapes',
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        ignore_index=255,
        test_mode=True,
        pipeline=pipeline,
    ),
)
del pipeline  # not a key of the config
