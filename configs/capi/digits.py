# CAPI on DigitScenes: real photographs and scanned digits, made on first use, no download. For a CPU and a few minutes.
# The recipe of vitl14.py with a tiny ViT at 32 px.
_base_ = './vitl14.py'

global_batch_size = 128
num_prototypes = 512
embed_dim = 96
predictor_dim = 96
num_heads = 3

model = dict(
    backbone=dict(
        patch_size=4, embed_dim=embed_dim, depth=4, num_heads=num_heads, num_registers=4, drop_path_rate=0.0
    ),
    branches=dict(
        capi=dict(
            target_generator=dict(in_dim=embed_dim, num_prototypes=num_prototypes, chunk_tokens=None),
            neck=dict(
                context_dim=embed_dim, embed_dim=predictor_dim, depth=2, num_heads=num_heads, drop_path_rate=0.0
            ),
            head=dict(in_dim=predictor_dim, num_prototypes=num_prototypes),
        )
    ),
    micro_batch_size=None,
)

train_dataloader = dict(
    num_workers=1,
    pin_memory=False,
    collate_fn=dict(patch_size=4, masking=dict(predict_ratio=0.2)),
    dataset=dict(
        dataset=dict(
            _delete_=True,
            type='mmmim.DigitScenes',
            data_root='data/digit_scenes',
            subset='single',
            split='train',
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    type='mmpretrain.RandomResizedCrop',
                    scale=32,
                    crop_ratio_range=(0.6, 1.0),
                    interpolation='bicubic',
                    backend='pillow',
                ),
                dict(type='mmpretrain.PackInputs'),
            ],
        )
    ),
)

optim_wrapper = dict(dtype=None, optimizer=dict(lr=2e-3))
train_cfg = dict(max_iters=1500)
default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(interval=500, max_keep_ckpts=1),
    target_ema=dict(momentum=dict(base=0.99)),
)
