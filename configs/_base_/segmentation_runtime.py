# Training of a segmentor on a pre-trained encoder: the runtime of all configs, without what is about pre-training.
_base_ = './default_runtime.py'

default_hooks = dict(
    # The best checkpoint is kept beside the last one; its mIoU is in the log.
    checkpoint=dict(max_keep_ckpts=1, save_best='mIoU', rule='greater'),
    health=None,
    probe=None,
)
custom_hooks = [
    dict(type='mmmim.StepSeedHook'),
    dict(type='mmmim.TrainingInfoHook'),
    dict(type='mmmim.CurvesHook'),
    dict(type='mmmim.SegmentationPicturesHook'),
]
visualizer = dict(type='mmseg.SegLocalVisualizer', name='visualizer')
