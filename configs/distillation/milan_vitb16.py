# MILAN (arXiv 2208.06049), ViT-B/16 on ImageNet-1k, with the recipe of mmpretrain: 400 epochs of 312 iterations, batch
# 4096, 224 px. The teacher, CLIP ViT-B/16, says which quarter of the patches is visible, and the decoder leaves what
# the encoder has seen as it is. The loss is of all patches and of CLS, a mean over these 197 tokens.
#
# The numbers of mmpretrain's page: ImageNet-1k fine-tuning 85.3, linear probing 78.9 (not run here).
#
# Run: tools/dist_train.sh configs/distillation/milan_vitb16.py 8
# It needs the file model.branches.clip.target_generator.checkpoint. `global_batch_size` is shared by all GPUs. If a
# GPU's part does not fit, set `model.micro_batch_size='auto'`.
_base_ = './eva_mae_vitb16.py'

model = dict(
    branches=dict(
        clip=dict(
            target_generator=dict(masks='importance'),
            neck=dict(
                _delete_=True,
                type='mmmim.PromptingDecoder',
                context_dim=768,
                embed_dim=512,
                depth=8,
                num_heads=16,
                out_dim=512,
                grid=(14, 14),
                predict_cls=True,
            ),
            head=dict(
                _delete_=True,
                type='mmmim.CombinedHead',
                heads=dict(
                    patches=dict(type='mmmim.RegressionHead', loss='cosine', weight=196 / 197),
                    cls=dict(type='mmmim.RegressionHead', loss='cosine', of='cls', weight=1 / 197),
                ),
            ),
        )
    )
)

train_dataloader = dict(
    collate_fn=dict(
        masking=dict(_delete_=True, type='mmmim.PredictAll', masking=dict(type='mmmim.UniformMasking', mask_ratio=0.75))
    )
)
