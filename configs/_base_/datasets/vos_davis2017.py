# DAVIS-2017 val at 480p, 30 videos of which every object is annotated. The folder is that of
# docs/en/dataset_prepare.md#davis-2017.
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    # No sequence twice, where several processes share them.
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(type='mmmim.DAVIS2017', data_root='data/davis', split='val'),
)
