# Images as they are evaluated, for fitting and testing: the shorter side to 256 pixels, bicubic by Pillow, and the
# central 224 x 224. For probes that are fitted on frozen features without augmentation.
train_pipeline = [
    dict(type='mmmim.LoadImage'),
    dict(type='mmpretrain.ResizeEdge', scale=256, edge='short', interpolation='bicubic', backend='pillow'),
    dict(type='mmpretrain.CenterCrop', crop_size=224),
    dict(type='mmpretrain.PackInputs'),
]
val_pipeline = train_pipeline
