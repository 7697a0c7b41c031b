# NYUv2 for probes: its labelled images, 795 to fit on and 654 to test, or whatever lies in the folders of the splits;
# 16-bit depth maps in millimetres, 0 where the depth is not known. The layout is that of mmsegmentation's NYUDataset,
# see docs/en/dataset_prepare.md#nyuv2-depth.
#
# Our choices: images at 336 x 448 pixels, which patches of 8, 14 and 16 pixels divide and which keeps the 3 : 4 of the
# files; depths at the size of the files, where they are scored.
pipeline = [
    dict(type='mmmim.LoadImage'),
    dict(type='mmcv.Resize', scale=(448, 336), keep_ratio=False, interpolation='bicubic', backend='pillow'),
    dict(type='mmmim.LoadDepth', unit=1e-3, high=10.0),
    dict(type='mmpretrain.PackInputs', algorithm_keys=('gt_map',)),
]
fit_dataloader = dict(
    batch_size=16,
    num_workers=8,
    dataset=dict(type='mmmim.NYUv2', data_root='data/nyu', split='train', test_mode=True, pipeline=pipeline),
)
test_dataloader = dict(
    batch_size=16,
    num_workers=8,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(type='mmmim.NYUv2', data_root='data/nyu', split='test', test_mode=True, pipeline=pipeline),
)
del pipeline  # not a key of the config
