# CAPI ViT-L/14 on ImageNet-22k, the recipe of the paper (arXiv 2502.08769, tables 6 and 8, model M5e2e).
#
# Batch 16 384, 500 000 iterations of one optimiser step each, at 224 px. The paper's numbers with these weights:
# k-NN mIoU on ADE20K 29.7, attentive probe on ImageNet-1k 83.6 (not run here).
#
# Run: tools/dist_train.sh configs/capi/vitl14.py 8
# `global_batch_size` is shared by all GPUs and must be divisible by their number; each GPU's part passes through the
# student in micro-batches of `micro_batch_size` images. Sinkhorn-Knopp balances over the images of all GPUs.
_base_ = ['../_base_/datasets/imagenet22k.py', '../_base_/default_runtime.py']

global_batch_size = 16384
num_prototypes = 16384
embed_dim = 1024
predictor_dim = 1024
num_heads = 16

model = dict(
    type='mmmim.MaskedImageModeling',
    data_preprocessor=dict(type='mmmim.MIMDataPreprocessor'),
    backbone=dict(
        type='mmmim.RoPEViT',
        patch_size=14,
        embed_dim=embed_dim,
        depth=24,
        num_heads=num_heads,
        num_registers=16,
        drop_path_rate=0.2,
    ),
    branches=dict(
        capi=dict(
            target_generator=dict(
                type='mmmim.OnlineClustering',
                in_dim=embed_dim,
                num_prototypes=num_prototypes,
                positional=True,
                target_temperature=0.06,
                temperature=0.12,
                iterations=3,
                chunk_tokens=16384,
            ),
            neck=dict(
                type='mmmim.CrossAttentionPredictor',
                context_dim=embed_dim,
                embed_dim=predictor_dim,
                depth=12,
                num_heads=num_heads,
                drop_path_rate=0.2,
            ),
            head=dict(
                type='mmmim.PrototypeHead', in_dim=predictor_dim, num_prototypes=num_prototypes, temperature=0.12
            ),
        )
    ),
    teacher=['backbone', 'branches.capi.neck', 'branches.capi.head'],
    micro_batch_size=128,
)

train_dataloader = dict(
    collate_fn=dict(
        type='mmmim.MaskCollate',
        patch_size=14,
        masking=dict(type='mmmim.InverseBlockMasking', mask_ratio=0.65, predict_ratio=0.05, roll=True),
    )
)

optim_wrapper = dict(
    type='mmmim.OptimWrapper',
    dtype='bfloat16',
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(type='mmengine.AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True),
    # The first rule that matches a parameter's name decides.
    paramwise_cfg=dict(
        rules=[
            # Online clustering: half the rate, weight decay 0.01, bias included.
            dict(match=r'target_generator\.', lr_mult=0.5, decay_mult=0.1),
            dict(match=r'patch_embed\.bias$', lr_mult=0.2, decay_mult=0.0),
            dict(match=r'patch_embed\.weight$', lr_mult=0.2),
            dict(match=r'norm\d\.weight$', decay_mult=0.1),
        ]
    ),
)
param_scheduler = dict(
    type='mmmim.ScheduleLR',
    by_epoch=False,
    schedule=dict(type='mmmim.truncated_cosine', warmup_ratio=0.1, truncation=0.8),
)
train_cfg = dict(type='mmengine.IterBasedTrainLoop', max_iters=500_000)

# The default hooks and the one that moves the teacher; momentum = 1 - learning rate.
default_hooks = dict(
    target_ema=dict(
        type='mmmim.TargetEMAHook',
        momentum=dict(
            type='mmmim.truncated_cosine', start=1.0, base=0.999, final=1.0, warmup_ratio=0.1, truncation=0.8
        ),
    )
)
