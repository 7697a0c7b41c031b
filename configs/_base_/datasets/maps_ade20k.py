# ADE20K, the 2000 validation images at their own sizes and their label maps, 150 classes. Label 0 of the files is
# ignored. The folder is that of docs/en/dataset_prepare.md.
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmseg.ADE20KDataset',
        data_root='data/ade/ADEChallengeData2016',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        ignore_index=255,
        test_mode=True,
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(type='mmmim.LoadLabelMap'),
            dict(type='mmseg.PackSegInputs'),
        ],
    ),
)
