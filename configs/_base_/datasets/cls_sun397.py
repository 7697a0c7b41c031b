# SUN397, the first of its ten official partitions: 19 850 training and 19 850 test images,
# docs/en/dataset_prepare.md#sun397. CAPI does not say which partition it takes.
num_classes = 397
train_set = dict(type='mmmim.SUN397', data_root='data/sun397', split='train', partition=1)
val_set = dict(train_set, split='test')
