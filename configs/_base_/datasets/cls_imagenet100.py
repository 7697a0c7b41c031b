# ImageNet-100: about 126 700 training and 5 000 validation images, docs/en/dataset_prepare.md#imagenet-100. Classes are
# numbered by the names of their folders; in the release of Latent MIM by their place in its list.
num_classes = 100
train_set = dict(type='mmmim.ImageFolder', data_root='data/imagenet100/train', with_label=True, section='imagenet-100')
val_set = dict(train_set, data_root='data/imagenet100/val')
