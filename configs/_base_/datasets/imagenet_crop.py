# ImageNet-1k with the augmentation of MFF (arXiv 2308.00261): images are resized by their shorter side and cut to a
# square with a reflected border of 4 pixels, so that nearly all of an object is seen.
_base_ = './imagenet.py'

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(type='mmpretrain.ResizeEdge', scale=224, edge='short', backend='pillow'),
                dict(type='mmpretrain.RandomCrop', crop_size=224, padding=4, padding_mode='reflect'),
                dict(type='mmpretrain.RandomFlip', prob=0.5),
                dict(type='mmpretrain.PackInputs'),
            ]
        )
    )
)
