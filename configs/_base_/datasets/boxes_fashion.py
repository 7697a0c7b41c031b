# FashionScenes with one to five garments on a photograph at 64 px, the 1000 images of the test split: a box around
# every connected piece of a garment's class of 16 pixels or more. Written on first use, see docs/en/dataset_prepare.md.
test_dataloader = dict(
    batch_size=50,
    num_workers=0,
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmmim.FashionScenes',
        data_root='data/fashion_scenes',
        subset='multi',
        split='test',
        with_label=False,
        test_mode=True,
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(type='mmmim.LoadLabelMap'),
            # 0 is not used, 1 is the background.
            dict(type='mmmim.BoxesOfLabelMap', background=(0, 1), least=16),
            dict(type='mmpretrain.PackInputs', meta_keys=['img_path', 'ori_shape', 'gt_bboxes']),
        ],
    ),
)
