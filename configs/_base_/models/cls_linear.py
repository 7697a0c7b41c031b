# Linear heads on frozen features of an encoder: which ones, `features` says by the names that the heads have. Of
# several each is trained as it would be alone. Numbers of the encoder are filled in by --pretrained.
model = dict(
    type='mmmim.ProbeClassifier',
    data_preprocessor=dict(
        type='mmpretrain.ClsDataPreprocessor', mean='pretrained:mean', std='pretrained:std', to_rgb=True
    ),
    backbone=dict(
        type='mmmim.PretrainedBackbone',
        checkpoint='pretrained:checkpoint',
        encoder='pretrained:encoder',
        out_indices=(-1,),
        frozen=True,
    ),
    head=dict(type='mmmim.LinearProbes', batch_norm=True, std=0.01, bias='zero'),
    reduction='sum',
)
val_evaluator = dict(type='mmmim.HeadAccuracy')
test_evaluator = dict(type='mmmim.HeadAccuracy')
