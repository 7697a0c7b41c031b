# Pascal VOC 2012 resized to squares of 224 pixels, for probes: 1464 images to fit on (train), 1449 to test (val), 21
# classes with the background. Borders of objects (255) are ignored. The folder is that of docs/en/dataset_prepare.md.
_base_ = './seg_ade20k_224.py'

voc = dict(
    type='mmseg.PascalVOCDataset',
    data_root='data/VOCdevkit/VOC2012',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
)

fit_dataloader = dict(dataset=dict(**voc, ann_file='ImageSets/Segmentation/train.txt'))
test_dataloader = dict(dataset=dict(**voc, ann_file='ImageSets/Segmentation/val.txt'))
del voc  # no key of the config
