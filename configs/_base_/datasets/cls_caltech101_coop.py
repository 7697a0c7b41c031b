# Caltech101 in the list of CoOp (arXiv 2109.01134), for few-shot learning: 4 128 training and 2 465 test
# images; the validation images of the list are not used. Without the list an own split, marked as not comparable:
# docs/en/dataset_prepare.md#few-shot-lists.
num_classes = 100
train_set = dict(
    type='mmmim.CoOpSplit',
    data_root='data/caltech-101',
    split_file='split_zhou_Caltech101.json',
    images='101_ObjectCategories',
    pool=[
        dict(type='mmmim.ImageFolder', data_prefix='101_ObjectCategories', with_label=True, section='few-shot-lists')
    ],
    split='train',
    without=['BACKGROUND_Google', 'Faces_easy'],
)
val_set = dict(train_set, split='test')
