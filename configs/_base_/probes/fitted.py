# A probe that is fitted on frozen patch features and tested by tools/test.py, without training: features of the last
# block, final-normed, at the size of the images. Numbers of the encoder are filled in by --pretrained.
_base_ = '../default_runtime.py'

model = dict(
    type='mmmim.FrozenFeatures',
    features='patches',
    data_preprocessor=dict(
        type='mmmim.ImageListPreprocessor', mean='pretrained:mean', std='pretrained:std', bgr_to_rgb=True
    ),
    backbone=dict(
        type='mmmim.PretrainedBackbone',
        checkpoint='pretrained:checkpoint',
        encoder='pretrained:encoder',
        out_indices=(-1,),
        frozen=True,
    ),
)

test_cfg = dict(
    type='mmmim.FitTestLoop',
    # The setting of the grid is chosen on these images of the training set and fitted again on all of it.
    held_out=0.1,
    choose_by='mIoU',
    seed=0,
    # Features are extracted once for all probes.
    cache=dict(folder='work_dirs/feature_cache', dtype='float16'),
)
# Both count the same pixels. capi/mIoU has a class of IoU 0 where an ignored label was predicted, mmseg/mIoU has not.
test_evaluator = [
    dict(type='mmmim.MacroJaccard', prefix='capi'),
    dict(type='mmseg.IoUMetric', iou_metrics=['mIoU'], ignore_index=255, prefix='mmseg'),
]

default_hooks = dict(
    health=None,
    probe=None,
    pictures=dict(type='mmmim.SegmentationPicturesHook'),
)
custom_hooks = []
