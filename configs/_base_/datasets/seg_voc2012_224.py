# Pascal VOC 2012 resized to squares of 224 pixels, for probes: 1464 images to fit on (train), 1449 to test (val), 21
# classes with the background. Borders of objects (255) are ignored. The folder is that of docs/en/dataset_prepare.md.
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
        type='mmseg.PascalVOCDataset',
        data_root='data/VOCdevkit/VOC2012',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/train.txt',
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
        type='mmseg.PascalVOCDataset',
        data_root='data/VOCdevkit/VOC2012',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/val.txt',
        ignore_index=255,
        test_mode=True,
        pipeline=pipeline,
    ),
)
del pipeline  # not a key of the config
