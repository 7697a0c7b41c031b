import copy
import os

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from PIL import Image
from torch.utils.data import DataLoader

from mmmim.datasets import ImageFolder
from mmmim.registry import DATASETS
from mmmim.utils import InputError

PIPELINE = [{'type': 'mmmim.LoadImage'}, {'type': 'mmpretrain.PackInputs'}]


def make_images(folder, n, start=0, suffix='.png'):
    """Images whose pixels all equal their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + n):
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(folder / f'{i:03d}{suffix}')


def number(sample):
    return int(sample['inputs'][0, 0, 0])


def numbers(dataset, workers=2, context=None):
    loader = DataLoader(
        dataset, batch_size=4, num_workers=workers, collate_fn=pseudo_collate, multiprocessing_context=context
    )
    return [int(image[0, 0, 0]) for batch in loader for image in batch['inputs']]


def input_error_of(dataset):
    message = ''
    try:
        numbers(dataset)
    except InputError as error:
        message = str(error)
        # The stack trace is part of a reference cycle that keeps the loader, and the garbage collector needs seconds
        # to end its workers.
        error.with_traceback(None)
    return message


def names(dataset):
    return [
        os.path.relpath(dataset.get_data_info(i)['img_path'], dataset.data_root).replace(os.sep, '/')
        for i in range(len(dataset))
    ]


def test_flat_and_nested_sorted(tmp_path):
    make_images(tmp_path / 'b' / 'deep', 2, 4)
    make_images(tmp_path / 'a', 2, 2)
    make_images(tmp_path, 2)
    dataset = DATASETS.build({'type': 'mmmim.ImageFolder', 'data_root': str(tmp_path), 'pipeline': PIPELINE})
    assert names(dataset) == ['000.png', '001.png', 'a/002.png', 'a/003.png', 'b/deep/004.png', 'b/deep/005.png']
    assert [number(dataset[i]) for i in range(6)] == [0, 1, 2, 3, 4, 5]
    assert 'gt_label' not in dataset.get_data_info(0)


def test_extensions_hidden_files_and_links(tmp_path):
    (tmp_path / 'images' / '.thumbnails').mkdir(parents=True)
    listed = ['a.JPEG', 'b.webp', 'c.tiff', 'd.jfif', 'e.Png']
    for name in [*listed, '._a.jpg', 'notes.txt', '.thumbnails/a.jpg']:
        (tmp_path / 'images' / name).touch()
    (tmp_path / 'elsewhere').mkdir()
    (tmp_path / 'elsewhere' / 'f.jpg').touch()
    (tmp_path / 'images' / 'linked').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere' / 'loop').symlink_to(tmp_path / 'images')
    assert names(ImageFolder(str(tmp_path / 'images'))) == [*listed, 'linked/f.jpg']
    assert names(ImageFolder(str(tmp_path / 'images'), extensions=['.TXT'])) == ['notes.txt']


def test_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    make_images(tmp_path / 'images', 3)
    assert len(ImageFolder('~/images')) == 3


def test_class_folders(tmp_path):
    make_images(tmp_path / 'n02', 2)
    make_images(tmp_path / 'n01' / 'inner', 1, 2)
    (tmp_path / 'n00').mkdir()
    make_images(tmp_path, 1, 9)
    dataset = ImageFolder(str(tmp_path), with_label=True, pipeline=PIPELINE)
    assert dataset.CLASSES == ('n00', 'n01', 'n02')
    assert [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))] == [1, 2, 2]
    assert dataset[0]['data_samples'].gt_label.item() == 1
    assert names(dataset) == ['n01/inner/002.png', 'n02/000.png', 'n02/001.png']


def test_class_folders_missing_or_other(tmp_path):
    make_images(tmp_path, 1)
    with pytest.raises(InputError, match=r'no class folders in .*with_label'):
        ImageFolder(str(tmp_path), with_label=True)
    (tmp_path / 'a').mkdir()
    with pytest.raises(InputError, match='hold no images'):
        ImageFolder(str(tmp_path), with_label=True)
    make_images(tmp_path / 'a', 1)
    with pytest.raises(InputError, match='1 class folders, but 2 classes'):
        ImageFolder(str(tmp_path), with_label=True, classes=['x', 'y'])


def test_folder_errors(tmp_path):
    with pytest.raises(InputError, match='data_root is empty'):
        ImageFolder('')
    with pytest.raises(InputError, match=r'there is no image folder .*nowhere.*data_root'):
        ImageFolder(str(tmp_path / 'nowhere'))
    (tmp_path / 'notes.txt').touch()
    (tmp_path / 'photo.heic').touch()
    (tmp_path / 'other.heic').touch()
    with pytest.raises(InputError, match=r'notes.txt is a file'):
        ImageFolder(str(tmp_path / 'notes.txt'))
    with pytest.raises(InputError, match=r'no images in .*looked for .*\.webp.*found 2 x \.heic, 1 x \.txt'):
        ImageFolder(str(tmp_path))


def test_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    make_images(tmp_path / 'closed', 1)
    make_images(tmp_path, 1)
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == 'closed':
            raise PermissionError(13, 'Permission denied', path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(InputError, match=r'cannot list the folder .*closed: Permission denied'):
        ImageFolder(str(tmp_path))


def broken_folder(tmp_path, n=40, broken=(3, 4, 20)):
    make_images(tmp_path, n)
    for i in broken:
        path = tmp_path / f'{i:03d}.png'
        path.write_bytes(path.read_bytes()[:40])  # the header and no pixels
    return [str(tmp_path / f'{i:03d}.png') for i in broken]


def test_unreadable_images_are_replaced_by_the_next(tmp_path, monkeypatch):
    paths = broken_folder(tmp_path)
    logged = []
    monkeypatch.setattr('mmmim.datasets.image_folder.print_log', lambda text, *args, **kwargs: logged.append(text))
    dataset = ImageFolder(str(tmp_path), max_unreadable_share=0.1, pipeline=PIPELINE)
    assert dataset.unreadable == []
    for _ in range(2):
        assert [number(dataset[i]) for i in (2, 3, 4, 5, 20)] == [2, 5, 5, 5, 21]
    assert dataset.unreadable == paths
    assert [sum(path in line for line in logged) for path in paths] == [1, 1, 1]


def test_the_last_image_is_replaced_by_the_first(tmp_path):
    broken_folder(tmp_path, n=5, broken=[4])
    dataset = ImageFolder(str(tmp_path), pipeline=PIPELINE)
    assert number(dataset[4]) == 0


@pytest.mark.parametrize(('context', 'workers'), [('fork', 2), ('spawn', 1)])
def test_workers_share_the_count_over_epochs(tmp_path, context, workers):
    paths = broken_folder(tmp_path)
    dataset = ImageFolder(str(tmp_path), max_unreadable_share=0.1, pipeline=PIPELINE)
    expected = [{3: 5, 4: 5, 20: 21}.get(i, i) for i in range(40)]
    for _ in range(1 if context == 'spawn' else 2):  # spawned workers import everything, which takes seconds
        assert numbers(dataset, workers, context) == expected
        assert dataset.unreadable == paths


def test_a_limit_that_no_single_worker_exceeds(tmp_path):
    # With batches of 4 and two workers, 3 and 20 fall to the worker of the even batches, 4 and 39 to the other.
    broken_folder(tmp_path, broken=(3, 20, 4, 39))
    dataset = ImageFolder(str(tmp_path), max_unreadable_share=0.08, pipeline=PIPELINE)
    message = input_error_of(dataset)
    assert '\n' not in message
    assert 'Traceback' not in message
    assert message.startswith(f'4 of the 40 images of {tmp_path}')
    assert '10.0%' in message
    assert 'max_unreadable_share=0.08' in message
    assert f'cannot read image {tmp_path}' in message


def test_one_unreadable_image_is_tolerated_but_not_at_zero(tmp_path):
    paths = broken_folder(tmp_path, n=6, broken=[2])
    dataset = ImageFolder(str(tmp_path), pipeline=PIPELINE)
    assert number(dataset[2]) == 3
    assert dataset.unreadable == paths
    with pytest.raises(InputError, match='1 of the 6 images'):
        ImageFolder(str(tmp_path), max_unreadable_share=0, pipeline=PIPELINE)[2]


def test_default_limit_is_one_per_cent(tmp_path):
    broken_folder(tmp_path, n=6, broken=[2, 4])
    dataset = ImageFolder(str(tmp_path), pipeline=PIPELINE)
    dataset[2]
    with pytest.raises(InputError, match=r'2 of the 6 images .*33\.3%.*max_unreadable_share=0\.01'):
        dataset[4]


def test_no_readable_image_at_all(tmp_path):
    broken_folder(tmp_path, n=2, broken=[0, 1])
    with pytest.raises(InputError, match='none of the 2 images'):
        ImageFolder(str(tmp_path), max_unreadable_share=1, pipeline=PIPELINE)[0]


@pytest.mark.parametrize('share', [-0.1, 1.5])
def test_impossible_share(tmp_path, share):
    with pytest.raises(InputError, match='max_unreadable_share'):
        ImageFolder(str(tmp_path), max_unreadable_share=share)


def test_test_mode_replaces_nothing(tmp_path):
    (path,) = broken_folder(tmp_path, n=6, broken=[2])
    dataset = ImageFolder(str(tmp_path), test_mode=True, pipeline=PIPELINE)
    assert number(dataset[3]) == 3
    with pytest.raises(InputError, match=f'cannot read image {path}'):
        dataset[2]


def test_other_errors_of_the_pipeline_are_not_hidden(tmp_path):
    make_images(tmp_path, 3)

    def fail(results):
        raise OSError('a bug')

    with pytest.raises(OSError, match='a bug'):
        ImageFolder(str(tmp_path), pipeline=[fail])[0]


def test_subsets_and_copies_count_for_themselves(tmp_path):
    paths = broken_folder(tmp_path)
    dataset = ImageFolder(str(tmp_path), max_unreadable_share=1, pipeline=PIPELINE)
    dataset[3]
    subset = dataset.get_subset([20, 21, 3])
    assert subset.unreadable == []
    assert number(subset[0]) == 21
    assert subset.unreadable == paths[2:]
    assert dataset.unreadable == paths[:2]
    copied = copy.deepcopy(dataset)
    assert numbers(copied) == [{3: 5, 4: 5, 20: 21}.get(i, i) for i in range(40)]
    assert copied.unreadable == paths
    assert dataset.unreadable == paths[:2]
    dataset.get_subset_([4, 5])
    assert (len(dataset), dataset.unreadable, number(dataset[0])) == (2, [], 5)


def test_indices_and_lazy_init(tmp_path):
    make_images(tmp_path, 5)
    dataset = ImageFolder(str(tmp_path), indices=[4, 0], lazy_init=True, pipeline=PIPELINE)
    dataset.full_init()
    assert [number(dataset[i]) for i in range(len(dataset))] == [4, 0]
    unserialized = ImageFolder(str(tmp_path), serialize_data=False, pipeline=PIPELINE)
    assert torch.equal(unserialized[1]['inputs'], ImageFolder(str(tmp_path), pipeline=PIPELINE)[1]['inputs'])
