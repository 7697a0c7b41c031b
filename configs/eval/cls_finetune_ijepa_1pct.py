# Fine-tuning on 1 % of ImageNet-1k, extra: a protocol of I-JEPA (arXiv 2301.08243, table 2), in none of the four papers
# of the toolbox. 50 epochs with batch 512, learning rate 3e-5, rates that decay by 0.75 from block to block, weight
# decay 0.05, label smoothing, RandAugment, and no mixup, cutmix, erasing or stochastic depth, on the mean of the
# patches after the final norm.
#
# The numbers of the paper, top-1: ViT-L/16 69.4, ViT-H/14 73.3, ViT-H/16 at 448 px 77.3 (not run here). ViT-H has
# weight decay 0.4: --cfg-options optim_wrapper.optimizer.weight_decay=0.4. Not stated and our choices: five epochs of
# warm-up, the least rate and the head, as MAE has them. A tenth of ImageNet-1k: cls_imagenet_10pct.py in the place of
# cls_imagenet_1pct.py below.
#
# Run: tools/dist_train.sh configs/eval/cls_finetune_ijepa_1pct.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_finetune.py',
    '../_base_/schedules/cls_finetune.py',
    '../_base_/datasets/cls_imagenet_1pct.py',
    '../_base_/pipelines/finetune224.py',
]

global_batch_size = 512

model = dict(
    data_preprocessor=dict(num_classes={{_base_.num_classes}}),
    backbone=dict(out_type='pooled', final_norm=True, drop_path_rate=0.0),
    head=dict(num_classes={{_base_.num_classes}}),
    train_cfg=None,
)
optim_wrapper = dict(optimizer=dict(lr=3e-5), paramwise_cfg=dict(layer_decay=0.75))
param_scheduler = dict(schedule=dict(warmup_ratio=5 / 50, final=1e-6 / 3e-5))
train_cfg = dict(max_epochs=50)

_base_.train_pipeline.pop(4)

train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
