# Oxford Flowers in the list of CoOp (arXiv 2109.01134), for few-shot learning: 4 093 training and 2 463 test
# images; the validation images of the list are not used. Without the list an own split, marked as not comparable:
# docs/en/dataset_prepare.md#few-shot-lists.
num_classes = 102
train_set = dict(
    type='mmmim.CoOpSplit',
    data_root='data/oxford_flowers',
    split_file='split_zhou_OxfordFlowers.json',
    images='jpg',
    pool=[dict(type='mmmim.Flowers102', split='trainval'), dict(type='mmmim.Flowers102', split='test')],
    split='train',
)
val_set = dict(train_set, split='test')
