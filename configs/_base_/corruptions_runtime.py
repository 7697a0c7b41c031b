# Any classifier that was trained on an encoder, tested on corrupted images: the model is that of the checkpoint, and
# what stands here is the simplest one.
_base_ = ['./classification_runtime.py', './models/cls_linear.py']

model = dict(features=dict(pooled='pooled'))
test_cfg = dict(
    type='mmmim.CorruptionsTestLoop',
    corruptions=[
        'gaussian_noise',
        'shot_noise',
        'impulse_noise',
        'defocus_blur',
        'glass_blur',
        'motion_blur',
        'zoom_blur',
        'snow',
        'frost',
        'fog',
        'brightness',
        'contrast',
        'elastic_transform',
        'pixelate',
        'jpeg_compression',
    ],
    severities=[1, 2, 3, 4, 5],
    # The corruptions.json of another classifier on the same images, whose errors are 100 %.
    baseline=None,
    examples=1,
)
# Nothing is trained here.
train_dataloader = None
val_dataloader = None
val_cfg = None
val_evaluator = None
test_evaluator = [dict(type='mmmim.Calibration', bins=15)]
