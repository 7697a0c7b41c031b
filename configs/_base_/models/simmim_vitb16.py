# SimMIM ViT-B/16 (arXiv 2111.09886): the encoder of BEiT with a bias of relative positions that all blocks share and no
# other positions, and a linear layer that predicts the normalised pixels of an image as they are.
_base_ = './beit_vitb16.py'

model = dict(
    backbone=dict(positions='relative_shared', extra_positions=False, init='beit'),
    branches=dict(
        _delete_=True,
        pixels=dict(
            target_generator=dict(type='mmmim.PixelTarget', patch_size=16, normalize=False),
            neck=dict(type='mmmim.PickPredicted', context_dim=768, out_dim=768, init='torch'),
            head=dict(type='mmmim.RegressionHead', loss='l1'),
        ),
    ),
)
