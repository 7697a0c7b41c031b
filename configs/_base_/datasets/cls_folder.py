# Any images in folders: train/ and val/ of one folder, which have the same class folders. That folder is all there is
# to say, by an environment variable: MMMIM_FOLDER=/my/images python tools/test.py ...
import os

data_root = '{{$MMMIM_FOLDER:data/folder}}'
_, folders, _ = next(os.walk(data_root + '/train'), ('', [], []))
# Of a folder that is not there, 1: what is missing is said when images are asked for.
num_classes = max(1, sum(not name.startswith('.') for name in folders))
train_set = dict(type='mmmim.ImageFolder', data_root=data_root + '/train', with_label=True)
val_set = dict(train_set, data_root=data_root + '/val')
del _, folders  # no keys of the config
