# Pascal VOC 2012, the 1449 images of val at their own sizes and their label maps, 21 classes with the background.
# Borders of objects (255) are ignored. The folder is that of docs/en/dataset_prepare.md.
_base_ = './maps_ade20k.py'

test_dataloader = dict(
    dataset=dict(
        type='mmseg.PascalVOCDataset',
        data_root='data/VOCdevkit/VOC2012',
        data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
        ann_file='ImageSets/Segmentation/val.txt',
    ),
)
