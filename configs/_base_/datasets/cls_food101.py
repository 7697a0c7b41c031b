# Food-101: 75 750 training and 25 250 test images, docs/en/dataset_prepare.md#food-101.
num_classes = 101
train_set = dict(type='mmmim.Food101', data_root='data/food-101', split='train')
val_set = dict(train_set, split='test')
