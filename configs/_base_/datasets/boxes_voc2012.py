# Pascal VOC 2012, trainval: all objects of an image, also difficult and truncated ones,
# docs/en/dataset_prepare.md#objects-pascal-voc-coco-20k.
_base_ = './boxes_voc2007.py'

test_dataloader = dict(dataset=dict(data_root='data/VOCdevkit/VOC2012'))
