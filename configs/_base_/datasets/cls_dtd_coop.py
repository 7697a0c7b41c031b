# Describable Textures in the list of CoOp (arXiv 2109.01134), for few-shot learning: 2 820 training and 1 692 test
# images; the validation images of the list are not used. Without the list an own split, marked as not comparable:
# docs/en/dataset_prepare.md#few-shot-lists.
num_classes = 47
train_set = dict(
    type='mmmim.CoOpSplit',
    data_root='data/dtd',
    split_file='split_zhou_DescribableTextures.json',
    images='images',
    pool=[dict(type='mmmim.ImageFolder', data_prefix='images', with_label=True, section='few-shot-lists')],
    split='train',
)
val_set = dict(train_set, split='test')
