# EVA (arXiv 2211.07636), ViT-g/14: an encoder that sees mask tokens predicts, at 105 of 256 patches, what CLIP ViT-L/14
# makes of them. 150 epochs of 30 million images from several data sets: here as many iterations of ImageNet-22k. Batch
# 4096, 224 px. The end of the cosine, 0, is a reading of ours, and weights start from a deviation of 0.02 in the place
# of 0.015.
#
# The paper's number after fine-tuning on ImageNet-21k, ImageNet-1k fine-tuning at 336 px 89.6 (not run here).
#
# Run: tools/dist_train.sh configs/distillation/eva_vitg14.py 8
# It needs the file model.branches.clip.target_generator.checkpoint. Of several GPUs,
# strategy=dict(type='mmmim.FSDP2Strategy') divides the model.
_base_ = [
    '../_base_/models/beit_vitb16.py',
    '../_base_/datasets/imagenet22k.py',
    '../_base_/schedules/beit.py',
]

global_batch_size = 4096
auto_scale_lr = dict(base_batch_size=4096)

model = dict(
    # CLIP's, of student and teacher.
    data_preprocessor=dict(mean=[122.7709, 116.746, 104.0937], std=[68.5005, 66.6322, 70.3232]),
    backbone=dict(patch_size=14, embed_dim=1408, depth=40, num_heads=16, mlp_ratio=6144 / 1408, layer_scale=None),
    branches=dict(
        _delete_=True,
        clip=dict(
            target_generator=dict(
                type='mmmim.FrozenTarget',
                checkpoint='checkpoints/clip_vit_large_14.pth',
                encoder=dict(type='mmmim.TimmEncoder', name='vit_large_patch14_clip_quickgelu_224', num_classes=768),
                projected=True,
                in_dim=768,
                statistics='student',
            ),
            neck=dict(type='mmmim.PickPredicted', context_dim=1408, out_dim=768, init='trunc_normal'),
            head=dict(type='mmmim.RegressionHead', loss='cosine'),
        ),
    ),
)

train_dataloader = dict(
    collate_fn=dict(type='mmmim.MaskCollate', patch_size=14, masking=dict(type='mmmim.BEiTMasking', num_visible=151))
)
_base_.train_dataloader.dataset.dataset.pipeline[1].update(crop_ratio_range=(0.2, 1.0))

optim_wrapper = dict(optimizer=dict(lr=1e-3, betas=(0.9, 0.98), eps=1e-6))
param_scheduler = dict(schedule=dict(start=0.0, final=0.0, warmup_ratio=2 / 150))
train_cfg = dict(max_iters=1_098_600)
