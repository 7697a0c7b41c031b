# iNaturalist 2021 mini: 50 training images of each of its 10 000 classes, the validation images of all.
_base_ = './cls_inat2021.py'

train_set = dict(data_root='data/inat2021/2021_train_mini')
