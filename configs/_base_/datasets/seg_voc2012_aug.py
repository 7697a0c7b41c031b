# Pascal VOC 2012, 21 classes, with the 9118 more training images of SBD (10 582 in all): docs/en/dataset_prepare.md.
# As in SemanticMIM (arXiv 2406.10673, table 6): 448 x 448 pixels; label maps have 100 x 100 in training, and in
# validation the size of the resized image.
ignore_index = 255
num_classes = 21

train_dataloader = dict(
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    sampler=dict(type='mmmim.PositionSampler', shuffle=True),
    dataset=dict(
        type='mmmim.SeededDataset',
        dataset=dict(
            type='mmengine.ConcatDataset',
            datasets=[
                dict(
                    type='mmseg.PascalVOCDataset',
                    data_root='data/VOCdevkit/VOC2012',
                    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
                    ann_file='ImageSets/Segmentation/train.txt',
                    ignore_index=ignore_index,
                    pipeline=[
                        dict(type='mmmim.LoadImage'),
                        dict(type='mmmim.LoadLabelMap'),
                        dict(
                            type='mmmim.RandomResizedCrop',
                            scale=448,
                            crop_ratio_range=(0.8, 1.0),
                            interpolation='bilinear',
                        ),
                        dict(type='mmcv.RandomFlip', prob=0.5),
                        dict(type='mmmim.ResizeLabelMap', scale=100),
                        dict(type='mmseg.PackSegInputs'),
                    ],
                ),
                dict(
                    type='mmseg.PascalVOCDataset',
                    data_root='data/VOCdevkit/VOC2012',
                    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
                    ann_file='ImageSets/Segmentation/aug.txt',
                    ignore_index=ignore_index,
                    pipeline=[
                        dict(type='mmmim.LoadImage'),
                        dict(type='mmmim.LoadLabelMap'),
                        dict(
                            type='mmmim.RandomResizedCrop',
                            scale=448,
                            crop_ratio_range=(0.8, 1.0),
                            interpolation='bilinear',
                        ),
                        dict(type='mmcv.RandomFlip', prob=0.5),
                        dict(type='mmmim.ResizeLabelMap', scale=100),
                        dict(type='mmseg.PackSegInputs'),
                    ],
                ),
            ],
        ),
    ),
)
val_dataloader = dict(
    batch_size=8,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmseg.PascalVOCDataset',
        data_root='data/VOCdevkit/VOC2012',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/val.txt',
        ignore_index=ignore_index,
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(type='mmmim.LoadLabelMap'),
            dict(type='mmcv.Resize', scale=(448, 448), keep_ratio=False),
            dict(type='mmmim.ForgetOriginalSize'),
            dict(type='mmseg.PackSegInputs'),
        ],
    ),
)
test_dataloader = val_dataloader
val_cfg = dict(type='mmengine.ValLoop')
test_cfg = dict(type='mmengine.TestLoop')
val_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'], ignore_index=ignore_index)
test_evaluator = dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'], ignore_index=ignore_index)
