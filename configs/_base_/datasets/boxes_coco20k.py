# COCO-20k, 20 000 images of train2014, without groups of objects,
# docs/en/dataset_prepare.md#objects-pascal-voc-coco-20k.
_base_ = './boxes_voc2007.py'

test_dataloader = dict(dataset=dict(type='mmmim.COCOBoxes', data_root='data/coco'))
