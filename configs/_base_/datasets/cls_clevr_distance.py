# CLEVR/Distance (VTAB, arXiv 1910.04867): 70 000 training and 15 000 validation images,
# docs/en/dataset_prepare.md#clevr.
num_classes = 6
train_set = dict(type='mmmim.CLEVR', data_root='data/clevr/CLEVR_v1.0', task='distance', split='train')
val_set = dict(train_set, split='val')
