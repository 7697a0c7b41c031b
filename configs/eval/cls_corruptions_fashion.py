# The protocol of cls_corruptions_imagenet.py on FashionScenes at 32 px: every fourth of its 2000 test images, for a CPU
# and some minutes.
#
# Run: python tools/test.py configs/eval/cls_corruptions_fashion.py CLASSIFIER
#      --cfg-options test_cfg.baseline=OTHER/corruptions.json
_base_ = [
    '../_base_/corruptions_runtime.py',
    '../_base_/datasets/cls_fashion.py',
    '../_base_/pipelines/whole.py',
]

model = dict(head=dict(num_classes={{_base_.num_classes}}))
_base_.val_pipeline.insert(-1, dict(type='mmmim.Corrupt'))
test_dataloader = dict(
    num_workers=0,
    dataset=dict(**_base_.val_set, indices=list(range(0, 2000, 4)), pipeline=_base_.val_pipeline, test_mode=True),
)
