# iNaturalist 2021: 2 686 843 training and 100 000 validation images, docs/en/dataset_prepare.md#inaturalist-2021.
num_classes = 10_000
train_set = dict(
    type='mmmim.ImageFolder', data_root='data/inat2021/2021_train', with_label=True, section='inaturalist-2021'
)
val_set = dict(train_set, data_root='data/inat2021/2021_valid')
