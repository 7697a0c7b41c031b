# A second picture of the same crop in other colours (ConMIM, arXiv 2205.09616): jitter in four of five, greys in one of
# five, blur in one of ten, solarised in one of five. Grey is BT.601's of BGR.
second_view = dict(
    type='mmmim.SecondView',
    transforms=[
        dict(
            type='mmcv.RandomApply',
            transforms=[dict(type='mmpretrain.ColorJitter', brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)],
            prob=0.8,
        ),
        dict(type='mmcv.RandomGrayscale', prob=0.2, keep_channels=True, channel_weights=(0.114, 0.587, 0.299)),
        dict(type='mmpretrain.GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf', prob=0.1),
        dict(type='mmpretrain.Solarize', thr=128, prob=0.2),
    ],
)
