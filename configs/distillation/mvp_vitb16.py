# MVP (arXiv 2203.05175), ViT-B/16 on ImageNet-1k: an encoder that sees mask tokens predicts, at 75 of 196 patches, what
# a frozen CLIP ViT-B/16 makes of them. No code of the authors is known: what is not in the idea, such as the recipe and
# the encoder's positions, is that of ../beit/vitb16.py, with masks in blocks. No numbers: the paper's are of another
# recipe. Not run here.
#
# Run: tools/dist_train.sh configs/distillation/mvp_vitb16.py 8
# It needs the file model.branches.clip.target_generator.checkpoint.
_base_ = '../beit/vitb16.py'

model = dict(
    branches=dict(
        _delete_=True,
        clip=dict(
            target_generator=dict(
                type='mmmim.FrozenTarget',
                checkpoint='checkpoints/clip_vit_base_16.pth.tar',
                encoder=dict(type='mmmim.TimmEncoder', name='vit_base_patch16_clip_quickgelu_224', num_classes=512),
                projected=True,
                in_dim=512,
            ),
            neck=dict(type='mmmim.PickPredicted', context_dim=768, out_dim=512, init='trunc_normal'),
            head=dict(type='mmmim.RegressionHead', loss='cosine'),
        ),
    )
)

train_dataloader = dict(
    collate_fn=dict(masking=dict(_delete_=True, type='mmmim.BEiTMasking', num_visible=121)),
)
