# CAPI, table 1(d), model Ae7b3: crops of 20 to 100 % of the image.
# Paper: k-NN mIoU on ADE20K 28.9, attentive probe on ImageNet-1k 80.9 (not run here).
_base_ = './vitl16.py'

train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            pipeline=[
                dict(type='mmmim.LoadImage'),
                dict(
                    type='mmmim.RandomResizedCrop',
                    scale=224,
                    crop_ratio_range=(0.2, 1.0),
                    interpolation='bicubic',
                ),
                dict(type='mmpretrain.RandomFlip', prob=0.5),
                dict(type='mmpretrain.PackInputs'),
            ]
        )
    )
)
