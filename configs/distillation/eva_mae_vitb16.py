# EVA (arXiv 2211.07636) "in MAE's style", ViT-B/16 on ImageNet-1k, with the recipe of mmpretrain: 400 epochs of 312
# iterations, batch 4096, 224 px, a quarter of the patches visible, CLIP ViT-B/16 as teacher.
#
# The numbers of mmpretrain's page: ImageNet-1k fine-tuning 83.7, linear probing 69.0 (not run here).
#
# Run: tools/dist_train.sh configs/distillation/eva_mae_vitb16.py 8
# It needs the file model.branches.clip.target_generator.checkpoint. `global_batch_size` is shared by all GPUs. If a
# GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = [
    '../_base_/models/eva_mae_vitb16.py',
    '../_base_/datasets/imagenet.py',
    '../_base_/schedules/mae.py',
]

global_batch_size = 4096
auto_scale_lr = dict(base_batch_size=4096)

train_dataloader = dict(
    collate_fn=dict(type='mmmim.MaskCollate', patch_size=16, masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75))
)

optim_wrapper = dict(
    # Unlike in MAE, tokens do not decay.
    paramwise_cfg=dict(rules=dict(no_decay=dict(match=r'\.bias$|norm\d?\.weight$|(extra_tokens|mask_token)$')))
)
param_scheduler = dict(schedule=dict(start=1e-4, warmup_ratio=40 / 400))
train_cfg = dict(max_iters=124_800)
