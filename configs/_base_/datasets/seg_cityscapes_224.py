# Cityscapes resized to squares of 224 pixels, for probes: 2975 images to fit on, 500 to test, 19 classes. Other labels
# (255) are ignored. The folder is that of docs/en/dataset_prepare.md.
_base_ = './seg_ade20k_224.py'

data = dict(type='mmseg.CityscapesDataset', data_root='data/cityscapes')
train = dict(**data, data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'))
val = dict(**data, data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'))

fit_dataloader = dict(dataset=train)
test_dataloader = dict(dataset=val)
del data, train, val  # no keys of the config
