# Oxford-IIIT Pets: 3 680 images to train on, 3 669 to test, docs/en/dataset_prepare.md#oxford-iiit-pets.
num_classes = 37
train_set = dict(type='mmmim.OxfordIIITPet', data_root='data/oxford_pets', split='trainval')
val_set = dict(train_set, split='test')
