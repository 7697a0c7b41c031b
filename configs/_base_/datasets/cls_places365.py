# Places365-Standard in small images: 1 803 460 training and 36 500 validation images,
# docs/en/dataset_prepare.md#places365.
num_classes = 365
train_set = dict(type='mmmim.Places365', data_root='data/places365', split='train')
val_set = dict(train_set, split='val')
