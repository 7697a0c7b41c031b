# Stanford Cars: 8 144 training and 8 041 test images, docs/en/dataset_prepare.md#stanford-cars.
num_classes = 196
train_set = dict(type='mmmim.StanfordCars', data_root='data/stanford_cars', split='train')
val_set = dict(train_set, split='test')
