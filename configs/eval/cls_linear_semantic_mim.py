# Linear probe of SemanticMIM (arXiv 2406.10673, tables 1 and 5): a linear layer on the seventh block, by AdamW in
# 100 epochs with batch 1024. "Patch" is the mean of the patches and "CLS" that of the proxies or the CLS token, each
# through a LayerNorm without weights; both are trained in the same steps.
#
# The numbers of the paper, top-1 on ImageNet-1k of ViT-B/16, CLS / Patch: BEiT 31.5 / 38.7, with SemanticMIM 49.2 /
# 48.2; MaskFeat 23.4 / 33.5, with SemanticMIM 52.0 / 59.7 (not run here). The block is the paper's; the released
# configs probe the last one, --cfg-options model.backbone.out_indices=[-1]. Images are normalised as in pre-training;
# the released code takes 127.5 for BEiT, model.data_preprocessor.mean=[127.5,127.5,127.5] and std likewise. There
# stochastic depth stays on in training, here it is off: model.backbone.frozen=False +model.backbone.drop_path_rate=0.1
# has it. Encoders without CLS: model.features.cls=None.
#
# Run: tools/dist_train.sh configs/eval/cls_linear_semantic_mim.py 8 --pretrained CHECKPOINT
_base_ = [
    '../_base_/models/cls_linear.py',
    '../_base_/schedules/cls_linear_adamw.py',
    '../_base_/datasets/cls_{{$MMMIM_DATA:imagenet}}.py',
    '../_base_/pipelines/rrc224.py',
]

model = dict(
    backbone=dict(out_indices=[6]),
    features=dict(patch='pooled_probe', cls='cls_probe'),
    head=dict(batch_norm=False, std=0.02, num_classes={{_base_.num_classes}}),
)

train_dataloader = dict(dataset=dict(dataset=dict(**_base_.train_set, pipeline=_base_.train_pipeline)))
val_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
test_dataloader = dict(dataset=dict(**_base_.val_set, pipeline=_base_.val_pipeline, test_mode=True))
