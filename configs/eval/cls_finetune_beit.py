# Fine-tuning of BEiT (arXiv 2106.08254, and its released code), ViT-B/16 that was pre-trained without labels: 100
# epochs, 20 of them warm-up, 4e-3 with batch 1024, rates that decay by 0.65 from block to block; head of deviation
# 0.02, a thousandth of it.
#
# The number in Latent MIM's table 12, top-1 on ImageNet-1k: 82.9 (not run here). Images are normalised as in
# pre-training; the released code takes Inception's 127.5, --cfg-options
# model.data_preprocessor.mean=[127.5,127.5,127.5] and std likewise. Weights of the head are drawn a thousand times
# smaller, which cuts them at another multiple of their deviation that none reaches.
#
# Run: tools/dist_train.sh configs/eval/cls_finetune_beit.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_finetune.py',
    '../_base_/schedules/cls_finetune.py',
    '../_base_/datasets/cls_{{$MMMIM_DATA:imagenet}}.py',
    '../_base_/pipelines/finetune224.py',
]

model = dict(
    data_preprocessor=dict(num_classes={{_base_.num_classes}}),
    head=dict(init_cfg=dict(std=0.02 * 0.001), num_classes={{_base_.num_classes}}),
)
optim_wrapper = dict(optimizer=dict(lr=4e-3), paramwise_cfg=dict(layer_decay=0.65))
# Both ends of the warm-up are included, as in the released code.
param_scheduler = dict(
    schedule=dict(
        _delete_=True, type='mmmim.truncated_cosine', warmup_ratio=20 / 100, truncation=1.0, final=1e-6 / 4e-3
    )
)
train_cfg = dict(max_epochs=100)

train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
