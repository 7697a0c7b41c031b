# FashionScenes with one to five garments on a photograph at 64 px and their label maps, the first 500 images of the
# test split. Written on first use, see docs/en/dataset_prepare.md.
custom_imports = dict(imports=['mmmim.datasets.fashion_scenes_segmentation'])

test_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmim.FashionScenesSegmentation',
        data_root='data/fashion_scenes',
        subset='multi',
        split='test',
        indices=500,
        ignore_index=255,
        test_mode=True,
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(type='mmmim.LoadLabelMap'),
            dict(type='mmseg.PackSegInputs'),
        ],
    ),
)
