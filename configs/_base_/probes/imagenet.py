# Features scored on ImageNet-1k while a model trains. Add this file to `_base_` of a config; it needs both folders of
# docs/en/dataset_prepare.md.
probe_data = dict(
    train=dict(
        type='mmmim.ImageFolder',
        data_root='data/imagenet/train',
        with_label=True,
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(
                type='mmpretrain.ResizeEdge',
                scale=256,
                edge='short',
                interpolation='bicubic',
                backend='pillow',
            ),
            dict(type='mmpretrain.CenterCrop', crop_size=224),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
    val=dict(
        type='mmmim.ImageFolder',
        data_root='data/imagenet/val',
        with_label=True,
        pipeline=[
            dict(type='mmmim.LoadImage'),
            dict(
                type='mmpretrain.ResizeEdge',
                scale=256,
                edge='short',
                interpolation='bicubic',
                backend='pillow',
            ),
            dict(type='mmpretrain.CenterCrop', crop_size=224),
            dict(type='mmpretrain.PackInputs'),
        ],
    ),
)
