# Describable Textures, the first official partition: 3 760 images of train and val to train on, 1 880 to test,
# docs/en/dataset_prepare.md#dtd.
num_classes = 47
train_set = dict(type='mmmim.DTD', data_root='data/dtd', split='trainval')
val_set = dict(train_set, split='test')
