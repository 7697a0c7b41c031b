# Proxies for pixels, ViT-B/16: MAE's targets and recipe (arXiv 2111.06377), with the blocks of SemanticMIM (arXiv
# 2406.10673) in the place of the decoder, 8 proxies, and 78 of the 196 patches visible. A combination of our own: no
# numbers are published. Not run here.
_base_ = '../mae/vitb16.py'

model = dict(
    backbone=dict(num_cls_tokens=8, final_norm=False),
    branches=dict(
        pixels=dict(
            neck=dict(
                _delete_=True,
                type='mmmim.ProxyReconstruction',
                context_dim=768,
                depth=12,
                num_heads=12,
                out_dim=768,
                init='mae',
            )
        )
    ),
)

train_dataloader = dict(
    collate_fn=dict(masking=dict(_delete_=True, type='mmmim.UniformMasking', num_visible=78)),
)
