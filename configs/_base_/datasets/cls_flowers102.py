# Oxford Flowers: 2 040 images of train and val to train on, 6 149 to test,
# docs/en/dataset_prepare.md#oxford-flowers-102.
num_classes = 102
train_set = dict(type='mmmim.Flowers102', data_root='data/oxford_flowers', split='trainval')
val_set = dict(train_set, split='test')
