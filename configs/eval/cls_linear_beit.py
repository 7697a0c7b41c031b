# Linear probe of BEiT (arXiv 2106.08254, and its released code): a linear layer on every block, all of them trained in
# the same steps by the sum of their losses, by AdamW, 4e-3 with batch 1024, 100 epochs of a cosine that is constant
# within an epoch. Each reads the CLS token and the mean of the patches side by side, without the final norm (not
# stated; our choice); crops are bilinear. The best block and the best epoch are chosen on the validation images, as in
# the released code: `top1` of the log.
#
# No number of the four papers is of this probe (not run here). Images are normalised as in pre-training; the released
# code takes Inception's 127.5, --cfg-options model.data_preprocessor.mean=[127.5,127.5,127.5] and std likewise.
# Encoders without CLS: model.features.block=pooled. Another data set: MMMIM_DATA.
#
# Run: tools/dist_train.sh configs/eval/cls_linear_beit.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_linear.py',
    '../_base_/schedules/cls_linear_adamw.py',
    '../_base_/datasets/cls_{{$MMMIM_DATA:imagenet}}.py',
    '../_base_/pipelines/rrc224.py',
]

model = dict(
    backbone=dict(out_indices='pretrained:blocks', final_norm=False),
    features=dict(block='cls+pooled'),
    head=dict(batch_norm=False, std=0.01, num_classes={{_base_.num_classes}}),
)

_base_.train_pipeline[1].update(interpolation='bilinear')

train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))

param_scheduler = dict(schedule=dict(_delete_=True, type='mmmim.epochwise_min_cosine', epochs=100, warmup_epochs=0))
