from tests.paths import ROOT

CLASSES = (ROOT / 'tools/dataset_converters/imagenet100.txt').read_text().split()


def test_class_folders_are_linked(tool, tmp_path):
    assert len(set(CLASSES)) == 100
    source, out = tmp_path / 'imagenet', tmp_path / 'imagenet100'
    for split, number in (('train', 2), ('val', 1)):
        for name in (*CLASSES, 'n99999999'):
            folder = source / split / name
            folder.mkdir(parents=True)
            for i in range(number):
                (folder / f'{i}.JPEG').touch()
    for _ in range(2):  # links that are there already stay
        printed = tool('dataset_converters/imagenet100', '--imagenet', source, '--out', out)
        assert f'{out}/train: 100 classes, 200 images' in printed
        assert f'{out}/val: 100 classes, 100 images' in printed
    assert sorted(path.name for path in (out / 'train').iterdir()) == sorted(CLASSES)
    assert (out / 'val' / CLASSES[5] / '0.JPEG').is_file()


def test_what_is_missing_is_said(tool, tmp_path):
    error = tool('dataset_converters/imagenet100', '--imagenet', tmp_path, '--out', tmp_path / 'out', code=2)
    assert f'{tmp_path} lacks 200 of the 200 class folders, train/{CLASSES[0]} first' in error
    assert not (tmp_path / 'out').exists()
