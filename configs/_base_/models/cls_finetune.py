# Fine-tuning of an encoder: the mean of the patches of the last block, through a LayerNorm in the place of the
# encoder's own, and a linear layer; mixup, cutmix and label smoothing. Numbers of the encoder are filled in by
# --pretrained.
model = dict(
    type='mmpretrain.ImageClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor', mean='pretrained:mean', std='pretrained:std', to_rgb=True
    ),
    backbone=dict(
        type='mmmim.PretrainedBackbone',
        checkpoint='pretrained:checkpoint',
        encoder='pretrained:encoder',
        out_type='avg_featmap',
        final_norm=False,
        drop_path_rate=0.1,
    ),
    head=dict(
        type='mmpretrain.LinearClsHead',
        in_channels='pretrained:feature_dim',
        loss=dict(type='mmpretrain.LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='mmengine.TruncNormal', layer='Linear', std=2e-5, bias=0.0),
    ),
    train_cfg=dict(augments=[dict(type='mmpretrain.Mixup', alpha=0.8), dict(type='mmpretrain.CutMix', alpha=1.0)]),
)
val_evaluator = dict(type='mmmim.AcceptedAccuracy')
test_evaluator = dict(type='mmmim.AcceptedAccuracy')
