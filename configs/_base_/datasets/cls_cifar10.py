# CIFAR-10: 50 000 training and 10 000 test images of 32 pixels, docs/en/dataset_prepare.md#cifar-10-and-cifar-100.
num_classes = 10
train_set = dict(type='mmmim.CIFAR10', data_root='data/cifar10', split='train')
val_set = dict(train_set, split='test')
