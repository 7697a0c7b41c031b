# The encoder of configs/mae/digits.py with as many iterations, trained on the class of an image: what labels can buy.
_base_ = '../../../configs/mae/digits.py'
custom_imports = dict(imports=['projects.digit_scenes.supervised'])

model = dict(
    _delete_=True,
    type='mmmim.SupervisedViT',
    task='image',
    num_classes=10,
    backbone=dict(type='mmmim.ViT', img_size=32, patch_size=4, embed_dim=96, depth=4, num_heads=3),
    data_preprocessor=dict(type='mmmim.MIMDataPreprocessor'),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
val_dataloader = None
val_cfg = None
val_evaluator = None
test_evaluator = dict(type='mmmim.SupervisedScore', _delete_=True)
# What these report is about targets and frozen features.
default_hooks = dict(health=None, probe=None)
