# Cityscapes, 19 classes, in crops of 512 pixels: what seg_ade20k.py does, of images of another size. See
# docs/en/dataset_prepare.md.
_base_ = './seg_ade20k.py'

num_classes = 19
data = dict(type='mmseg.CityscapesDataset', data_root='data/cityscapes')
train = dict(**data, data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'))
val = dict(**data, data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'))

train_dataloader = dict(dataset=dict(dataset=train))
val_dataloader = dict(dataset=val)
test_dataloader = dict(dataset=val)
_base_.train_dataloader.dataset.dataset.pipeline[2].update(scale=(2048, 1024))
_base_.val_dataloader.dataset.pipeline[1].update(scale=(2048, 1024))
_base_.test_dataloader.dataset.pipeline[1].update(scale=(2048, 1024))
del data, train, val  # no keys of the config
