# Stanford Cars in the list of CoOp (arXiv 2109.01134), for few-shot learning: 6 509 training and 8 041 test
# images; the validation images of the list are not used. Without the list an own split, marked as not comparable:
# docs/en/dataset_prepare.md#few-shot-lists.
num_classes = 196
train_set = dict(
    type='mmmim.CoOpSplit',
    data_root='data/stanford_cars',
    split_file='split_zhou_StanfordCars.json',
    pool=[dict(type='mmmim.StanfordCars', split='train'), dict(type='mmmim.StanfordCars', split='test')],
    split='train',
)
val_set = dict(train_set, split='test')
