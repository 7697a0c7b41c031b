# Places205: 2 448 873 training and 20 500 validation images, docs/en/dataset_prepare.md#places205.
num_classes = 205
train_set = dict(
    type='mmmim.Places205', data_root='data/places205', data_prefix='images256', ann_file='train_places205.csv'
)
val_set = dict(train_set, ann_file='val_places205.csv')
