# Oxford-IIIT Pets in the list of CoOp (arXiv 2109.01134), for few-shot learning: 2 944 training and 3 669 test
# images; the validation images of the list are not used. Without the list an own split, marked as not comparable:
# docs/en/dataset_prepare.md#few-shot-lists.
num_classes = 37
train_set = dict(
    type='mmmim.CoOpSplit',
    data_root='data/oxford_pets',
    split_file='split_zhou_OxfordPets.json',
    images='images',
    pool=[dict(type='mmmim.OxfordIIITPet', split='trainval'), dict(type='mmmim.OxfordIIITPet', split='test')],
    split='train',
)
val_set = dict(train_set, split='test')
