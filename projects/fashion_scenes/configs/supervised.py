# The encoder of configs/mae/small.py, trained on the classes of images and on their label maps together, for about as
# long: what labels can buy.
_base_ = '../../../configs/mae/small.py'
custom_imports = dict(imports=['projects.fashion_scenes.supervised'])

model = dict(
    _delete_=True,
    type='mmmim.SupervisedViT',
    num_classes=10,
    num_labels=12,
    backbone=dict(type='mmmim.ViT', img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3),
    data_preprocessor=dict(type='mmmim.MIMDataPreprocessor'),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
train_cfg = dict(max_iters=400)
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
val_dataloader = None
val_cfg = None
val_evaluator = None
test_evaluator = dict(type='mmmim.SupervisedScore', _delete_=True)
# What these report is about targets and frozen features.
default_hooks = dict(health=None, probe=None)
