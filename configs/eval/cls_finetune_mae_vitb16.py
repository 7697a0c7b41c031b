# Fine-tuning of MAE (arXiv 2111.06377, table 9), ViT-B/16: 100 epochs, 1e-3 per 256 images, rates that decay by 0.75
# from block to block. cls_finetune_mae_vitb16_released.py has the rates of the released code, for its checkpoint.
#
# The number of the paper, top-1 on ImageNet-1k: 83.6 (not run here). Mean of the patches through a new LayerNorm, head
# of deviation 2e-5. From the log: `last` is the result, the best epoch is said as well. Mixup permutes the batch at
# random, where timm mixes it with its reverse. Averaged weights, in validations and checkpoints: --cfg-options
# +default_hooks.ema.type=mmengine.EMAHook +default_hooks.ema.momentum=1e-4.
#
# Run: tools/dist_train.sh configs/eval/cls_finetune_mae_vitb16.py 8 --pretrained CHECKPOINT
# Test: tools/dist_test.sh configs/eval/cls_finetune_mae_vitb16.py CLASSIFIER 8
_base_ = [
    '../_base_/models/cls_finetune.py',
    '../_base_/schedules/cls_finetune.py',
    '../_base_/datasets/cls_{{$MMMIM_DATA:imagenet}}.py',
    '../_base_/pipelines/finetune224.py',
]

model = dict(data_preprocessor=dict(num_classes={{_base_.num_classes}}), head=dict(num_classes={{_base_.num_classes}}))
optim_wrapper = dict(optimizer=dict(lr=1e-3 * 1024 / 256), paramwise_cfg=dict(layer_decay=0.75))
param_scheduler = dict(schedule=dict(warmup_ratio=5 / 100, final=1e-6 / (1e-3 * 1024 / 256)))
train_cfg = dict(max_epochs=100)

train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
