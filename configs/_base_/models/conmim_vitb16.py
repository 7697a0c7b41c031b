# ConMIM ViT-B/16 (arXiv 2205.09616): BEiT's encoder with relative positions that all blocks share and none that are
# added, and a projector with batch norm; a predicted patch is told from all patches of its image, as their EMA sees
# them.
_base_ = './beit_vitb16.py'

model = dict(
    backbone=dict(positions='relative_shared', extra_positions=False, init='beit', drop_path_rate=0.0),
    branches=dict(
        _delete_=True,
        patches=dict(
            target_generator=dict(type='mmmim.ProjectedLatents', projector='branches.patches.neck', out_dim=256),
            neck=dict(type='mmmim.BatchNormProjector', context_dim=768, hidden_dim=4096, out_dim=256),
            head=dict(type='mmmim.PatchDiscriminationHead', temperature=0.1, standardize=False, candidates='all'),
            # The head multiplies the cross-entropy by twice the temperature, as Latent MIM does.
            weight=1 / (2 * 0.1),
        ),
    ),
    teacher=['backbone', 'branches.patches.neck'],
)
