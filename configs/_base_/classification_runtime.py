# Training of a classifier on a pre-trained encoder: the runtime of all configs, without what is about pre-training, and
# what their loaders have in common. A protocol adds data sets with pipelines.
_base_ = './default_runtime.py'

train_dataloader = dict(
    num_workers=10,
    persistent_workers=True,
    sampler=dict(type='mmmim.PositionSampler', shuffle=True),
    dataset=dict(type='mmmim.SeededDataset'),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=5,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
)
test_dataloader = dict(
    batch_size=128,
    num_workers=5,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
)
val_cfg = dict(type='mmengine.ValLoop')
test_cfg = dict(type='mmengine.TestLoop')

default_hooks = dict(
    # The best checkpoint is kept beside the last one; the scores of all validations are in validations.json.
    checkpoint=dict(interval=1000, max_keep_ckpts=1, save_best='accuracy/top1', rule='greater'),
    scores=dict(type='mmmim.ScoresHook'),
    health=None,
    probe=None,
)
custom_hooks = [
    dict(type='mmmim.StepSeedHook'),
    dict(type='mmmim.TrainingInfoHook'),
    dict(type='mmmim.CurvesHook'),
]
