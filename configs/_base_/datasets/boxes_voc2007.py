# Pascal VOC 2007, trainval: all objects of an image, also difficult and truncated ones,
# docs/en/dataset_prepare.md#objects-pascal-voc-coco-20k.
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmim.VOCBoxes',
        data_root='data/VOCdevkit/VOC2007',
        test_mode=True,
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(type='mmpretrain.PackInputs', meta_keys=['img_path', 'ori_shape', 'gt_bboxes']),
        ],
    ),
)
