# Robustness and calibration of a trained classifier under the fifteen corruptions of ImageNet-C (Hendrycks and
# Dietterich 2019, arXiv 1903.12261) at five severities, made on the fly from the 224 px that are evaluated: top-1,
# calibration error (15 bins) and negative log-likelihood of clean and corrupted images, and the mean corruption error
# relative to another classifier, such as one on random weights or a supervised one.
#
# Our corruptions have the constants of ImageNet-C and not its images, and frost is a generated texture: scores are not
# those of ImageNet-C, and errors of AlexNet are no baseline here. Another data set of configs/_base_/datasets:
# MMMIM_DATA=cifar100 before the command.
#
# Run: tools/dist_test.sh configs/eval/cls_corruptions_imagenet.py CLASSIFIER 8
#      --cfg-options test_cfg.baseline=OTHER/corruptions.json
_base_ = [
    '../_base_/corruptions_runtime.py',
    '../_base_/datasets/cls_{{$MMMIM_DATA:imagenet}}.py',
    '../_base_/pipelines/eval224.py',
]

model = dict(head=dict(num_classes={{_base_.num_classes}}))
_base_.val_pipeline.insert(-1, dict(type='mmmim.Corrupt'))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
