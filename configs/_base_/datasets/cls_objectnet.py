# ObjectNet as a test set of a head of ImageNet-1k: its 18 574 images of 113 classes that ImageNet-1k has too,
# docs/en/dataset_prepare.md#objectnet. The score is mmmim.AcceptedAccuracy, since an image may have several labels.
_base_ = './cls_imagenet.py'

val_set = dict(_delete_=True, type='mmmim.ObjectNet', data_root='data/objectnet-1.0')
