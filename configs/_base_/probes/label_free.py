# What the patches of a frozen encoder show without learning: tested by tools/test.py, without training, one image at a
# time at its own size. Patches of the last block. Random weights are tested beside. Numbers of the encoder are filled
# in by --pretrained.
_base_ = '../default_runtime.py'

model = dict(
    type='mmmim.FrozenPatches',
    data_preprocessor=dict(
        type='mmmim.ImageListPreprocessor', mean='pretrained:mean', std='pretrained:std', bgr_to_rgb=True
    ),
    backbone=dict(
        type='mmmim.PretrainedBackbone',
        checkpoint='pretrained:checkpoint',
        encoder='pretrained:encoder',
        out_indices=(-1,),
        frozen=True,
    ),
)

test_cfg = dict(type='mmmim.LabelFreeTestLoop')

default_hooks = dict(
    health=None,
    probe=None,
    pictures=dict(type='mmmim.LabelFreePicturesHook'),
)
custom_hooks = []
