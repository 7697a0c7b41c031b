# FashionScenes with one garment at 32 px and its class: 9000 training and 2000 test images; 1000 of its split `val` are
# to choose on. Written on first use, docs/en/dataset_prepare.md#fashionscenes-no-download.
num_classes = 10
train_set = dict(type='mmmim.FashionScenes', data_root='data/fashion_scenes', subset='single', split='train')
val_set = dict(train_set, split='test')
