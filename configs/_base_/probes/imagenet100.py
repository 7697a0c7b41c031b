# Features scored on ImageNet-100 while a model trains. Add this file to `_base_` of a config; it needs both folders of
# docs/en/dataset_prepare.md.
_base_ = './imagenet.py'

probe_data = dict(train=dict(data_root='data/imagenet100/train'), val=dict(data_root='data/imagenet100/val'))
