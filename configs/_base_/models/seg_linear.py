# A linear classifier of patches, batch normalisation and a 1x1 convolution, on a frozen encoder's last, final-normed
# layer; logits are resized to the pixels. Numbers of the encoder are filled in by --pretrained.
model = dict(
    type='mmseg.EncoderDecoder',
    data_preprocessor=dict(
        type='mmseg.SegDataPreProcessor', mean='pretrained:mean', std='pretrained:std', bgr_to_rgb=True, pad_val=0
    ),
    backbone=dict(
        type='mmmim.PretrainedBackbone',
        checkpoint='pretrained:checkpoint',
        encoder='pretrained:encoder',
        out_indices=(-1,),
        frozen=True,
    ),
    neck=dict(
        type='mmmim.FeatureBatchNorm',
        num_features='pretrained:embed_dim',
        norm_cfg=dict(type='mmseg.SyncBN'),  # of one process: ordinary batch normalisation
    ),
    decode_head=dict(
        type='mmseg.FCNHead',  # without convolutions of its own: a 1x1 convolution
        in_channels='pretrained:embed_dim',
        channels='pretrained:embed_dim',
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        align_corners=False,
        loss_decode=dict(type='mmseg.CrossEntropyLoss', avg_non_ignore=True),
        init_cfg=dict(type='mmengine.Normal', std=0.01, bias=0, override=dict(name='conv_seg')),
    ),
    train_cfg=dict(),
)
