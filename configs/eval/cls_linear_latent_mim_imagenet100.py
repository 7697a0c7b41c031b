# The protocol of cls_linear_latent_mim.py on ImageNet-100 (arXiv 2407.15837, tables 1 to 4, 8b, 10 and 11): batch 1024,
# 0.5 per 256 images, 20 epochs, 2 of them warm-up.
#
# The number of the paper, top-1 of ViT-B/16: 77.3 (not run here).
#
# Run: tools/dist_train.sh configs/eval/cls_linear_latent_mim_imagenet100.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_linear.py',
    '../_base_/schedules/cls_linear_mae.py',
    '../_base_/datasets/cls_imagenet100.py',
    '../_base_/pipelines/rrc224.py',
]

global_batch_size = 1024

model = dict(features=dict(cls='cls', pooled='pooled', top10='top10'), head=dict(num_classes={{_base_.num_classes}}))

_base_.train_pipeline[1].update(type='mmmim.MAERandomResizedCrop')

train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))

optim_wrapper = dict(optimizer=dict(lr=0.5 * 1024 / 256))
train_cfg = dict(max_epochs=20)
param_scheduler = dict(schedule=dict(warmup_ratio=0.1))
