# SUN397 in the list of CoOp (arXiv 2109.01134), for few-shot learning: 15 880 training and 19 850 test
# images; the validation images of the list are not used. Without the list an own split, marked as not comparable:
# docs/en/dataset_prepare.md#few-shot-lists.
num_classes = 397
train_set = dict(
    type='mmmim.CoOpSplit',
    data_root='data/sun397',
    split_file='split_zhou_SUN397.json',
    images='SUN397',
    pool=[dict(type='mmmim.SUN397', split='train'), dict(type='mmmim.SUN397', split='test')],
    split='train',
)
val_set = dict(train_set, split='test')
