# Caltech101 in mmpretrain's lists: 30 training images of each of 102 classes (the background is one), the others to
# test. docs/en/dataset_prepare.md#caltech101.
num_classes = 102
train_set = dict(type='mmmim.Caltech101', data_root='data/caltech-101', split='train')
val_set = dict(train_set, split='test')
