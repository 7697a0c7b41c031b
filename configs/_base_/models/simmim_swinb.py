# SimMIM Swin-B (arXiv 2111.09886) for images of 192 pixels: windows of 6 x 6, no stochastic depth. A patch is a token
# of the last stage, 32 x 32 pixels; mask tokens stand behind the stem in the place of 8 x 8 of its tokens.
_base_ = './simmim_vitb16.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmmim.HierarchicalEncoder',
        name='mmpretrain:SwinTransformer',
        arch='base',
        img_size=192,
        window_size=6,
        drop_path_rate=0.0,
        fused=True,
    ),
    branches=dict(pixels=dict(target_generator=dict(patch_size=32), neck=dict(context_dim=1024, out_dim=3072))),
)
