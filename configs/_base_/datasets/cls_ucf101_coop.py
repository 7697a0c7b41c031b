# Middle frames of UCF101 in the list of CoOp (arXiv 2109.01134), for few-shot learning: 7 639 training and 3 783 test
# images; the validation images of the list are not used. Without the list an own split, marked as not comparable:
# docs/en/dataset_prepare.md#few-shot-lists.
num_classes = 101
train_set = dict(
    type='mmmim.CoOpSplit',
    data_root='data/ucf101',
    split_file='split_zhou_UCF101.json',
    images='UCF-101-midframes',
    pool=[dict(type='mmmim.ImageFolder', data_prefix='UCF-101-midframes', with_label=True, section='few-shot-lists')],
    split='train',
)
val_set = dict(train_set, split='test')
