# MovingFashion, 12 videos of 24 frames of 64 x 96 pixels or about as many, in which two to five garments move. Written
# on first use, see docs/en/dataset_prepare.md#movingfashion-videos-no-download.
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    # No sequence twice, where several processes share them.
    sampler=dict(type='mmengine.DefaultSampler', shuffle=False, round_up=False),
    dataset=dict(
        type='mmmim.MovingFashion', data_root='data/moving_fashion', sequences=12, frames=24, objects=(2, 5), seed=0
    ),
)
