# What mmpretrain calls EVA (arXiv 2211.07636) "in MAE's style", ViT-B/16: MAE's encoder and decoder, which predict
# what a frozen CLIP ViT-B/16 makes of the hidden patches, behind its final norm and its projection.
model = dict(
    type='mmmim.MaskedImageModeling',
    data_preprocessor=dict(type='mmmim.MIMDataPreprocessor'),
    backbone=dict(type='mmmim.ViT', img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12),
    branches=dict(
        clip=dict(
            target_generator=dict(
                type='mmmim.FrozenTarget',
                # The file clip_vit_base_16.pth.tar that OpenMMLab publishes with its configs of EVA and MILAN, CLIP's.
                checkpoint='checkpoints/clip_vit_base_16.pth.tar',
                encoder=dict(type='mmmim.TimmEncoder', name='vit_base_patch16_clip_quickgelu_224', num_classes=512),
                projected=True,
                in_dim=512,
                # CLIP sees pictures with ImageNet's mean and deviation, as in mmpretrain and in MILAN's released code.
                statistics='student',
            ),
            neck=dict(
                type='mmmim.SelfAttentionPredictor',
                context_dim=768,
                embed_dim=512,
                depth=8,
                num_heads=16,
                out_dim=512,
                grid=(14, 14),
            ),
            head=dict(type='mmmim.RegressionHead', loss='cosine'),
        )
    ),
    micro_batch_size=None,
)
