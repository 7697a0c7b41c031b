# Latent MIM, table 10: targets are the pixels of the patches, decoder of 7 blocks.
# Paper, on ImageNet-100: nearest neighbour 44.0, linear probing 67.4, fine-tuning 86.4 (not run here).
# Normalised pixels under the same losses: our reading.
_base_ = '../vitb16_in100.py'

model = dict(
    branches=dict(
        latent=dict(
            target_generator=dict(_delete_=True, type='mmmim.PixelTarget', patch_size=16, normalize=True),
            neck=dict(depth=7, out_dim=768),
        )
    ),
    teacher=None,
)
default_hooks = dict(target_ema=None)
