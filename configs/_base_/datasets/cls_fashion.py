# FashionScenes with one garment at 32 px and its class: 9000 images to learn from, 2000 to test. Written on first use,
# see docs/en/dataset_prepare.md.
num_classes = 10
train_set = dict(type='mmmim.FashionScenes', data_root='data/fashion_scenes', subset='single', split='train')
val_set = dict(train_set, split='test')
