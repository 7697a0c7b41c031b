# ImageNet-1k with its classes: 1 281 167 training and 50 000 validation images, docs/en/dataset_prepare.md#imagenet-1k.
#
# What every cls_*.py has: `train_set` and `val_set`, data sets that a protocol gives its pipelines, and `num_classes`.
# docs/en/dataset_prepare.md#classification shows how.
num_classes = 1000
train_set = dict(type='mmmim.ImageFolder', data_root='data/imagenet/train', with_label=True, section='imagenet-1k')
val_set = dict(train_set, data_root='data/imagenet/val')
