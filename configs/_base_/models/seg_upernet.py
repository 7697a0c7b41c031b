# UPerNet (arXiv 1807.10221) on a ViT, as BEiT has it: the outputs of the blocks at 1/3, 1/2, 2/3 and all of the depth
# become maps at strides 4, 8, 16 and 32. Where patches are not 16 pixels wide, `stride` resizes the maps first.
# Numbers of the encoder are filled in by --pretrained.
norm_cfg = dict(type='mmseg.SyncBN', requires_grad=True)  # of one process: ordinary batch normalisation

model = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor', mean='pretrained:mean', std='pretrained:std', bgr_to_rgb=True, pad_val=0
    ),
    backbone=dict(
        type='mmmim.PretrainedBackbone',
        checkpoint='pretrained:checkpoint',
        encoder='pretrained:encoder',
        out_indices=(1 / 3, 1 / 2, 2 / 3, 1.0),
        final_norm=False,
        stride=16,
        drop_path_rate=0.1,
    ),
    neck=dict(
        type='mmseg.Feature2Pyramid', embed_dim='pretrained:embed_dim', rescales=[4, 2, 1, 0.5], norm_cfg=norm_cfg
    ),
    decode_head=dict(
        type='mmseg.UPerHead',
        in_channels=['pretrained:embed_dim'] * 4,
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels='pretrained:embed_dim',
        dropout_ratio=0.1,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type='mmseg.FCNHead',
        in_channels='pretrained:embed_dim',
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', loss_weight=0.4),
    ),
    train_cfg=dict(),
)
