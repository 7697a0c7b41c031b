# As supervised_class.py, trained on the label maps.
_base_ = './supervised_class.py'

model = dict(task='patches', num_classes=12)
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    type='mmcv.LoadAnnotations',
                    with_bbox=False,
                    with_label=False,
                    with_seg=True,
                    imdecode_backend='pillow',
                ),
                dict(type='mmmim.CropWithLabels', scale=32, crop_ratio_range=(0.6, 1.0)),
                dict(type='mmpretrain.PackInputs', algorithm_keys=('gt_seg_map',)),
            ]
        )
    )
)
test_dataloader = dict(
    dataset=dict(
        dataset=dict(
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    type='mmcv.LoadAnnotations',
                    with_bbox=False,
                    with_label=False,
                    with_seg=True,
                    imdecode_backend='pillow',
                ),
                dict(type='mmpretrain.PackInputs', algorithm_keys=('gt_seg_map',)),
            ]
        )
    )
)
