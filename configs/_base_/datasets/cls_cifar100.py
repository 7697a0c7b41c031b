# CIFAR-100: 50 000 training and 10 000 test images of 32 pixels, docs/en/dataset_prepare.md#cifar-10-and-cifar-100.
num_classes = 100
train_set = dict(type='mmmim.CIFAR100', data_root='data/cifar100', split='train')
val_set = dict(train_set, split='test')
