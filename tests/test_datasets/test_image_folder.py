import copy
import os
import pickle
from multiprocessing.reduction import ForkingPickler

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
#: What is read of 40 images of which 3, 4 and 20 are broken.
REPLACED = [{3: 5, 4: 5, 20: 21}.get(i, i) for i in range(40)]


def make_images(folder, *numbers):
    """Images whose pixels all equal their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in numbers:
        Image.fromarray(np.full((4, 4, 3), i, np.uint8)).save(folder / f'{i:03d}.png')


def broken_folder(tmp_path, n=40, broken=(3, 4, 20)):
    make_images(tmp_path, *range(n))
    for i in broken:
        path = tmp_path / f'{i:03d}.png'
        path.write_bytes(path.read_bytes()[:40])  # the header and no pixels
    return [str(tmp_path / f'{i:03d}.png') for i in broken]


def folder(path, **options):
    return ImageFolder(str(path), pipeline=PIPELINE, **options)


def number(sample):
    return int(sample['inputs'][0, 0, 0])


def numbers(dataset):
    loader = DataLoader(dataset, batch_size=4, num_workers=2, collate_fn=pseudo_collate)
    return [int(image[0, 0, 0]) for batch in loader for image in batch['inputs']]


def names(dataset):
    return [os.path.relpath(dataset.get_data_info(i)['img_path'], dataset.data_root) for i in range(len(dataset))]


def test_flat_and_nested_sorted(tmp_path, monkeypatch):
    make_images(tmp_path / 'b' / 'deep', 4, 5)
    make_images(tmp_path / 'a', 2, 3)
    make_images(tmp_path, 0, 1)
    dataset = DATASETS.build({'type': 'mmmim.ImageFolder', 'data_root': str(tmp_path), 'pipeline': PIPELINE})
    assert names(dataset) == ['000.png', '001.png', 'a/002.png', 'a/003.png', 'b/deep/004.png', 'b/deep/005.png']
    assert [number(dataset[i]) for i in range(6)] == [0, 1, 2, 3, 4, 5]
    assert 'gt_label' not in dataset.get_data_info(0)
    monkeypatch.setenv('HOME', str(tmp_path))
    assert len(ImageFolder('~/a')) == 2
    some = folder(tmp_path, indices=[4, 0], lazy_init=True)
    some.full_init()
    assert [number(some[i]) for i in range(len(some))] == [4, 0]
    assert torch.equal(folder(tmp_path, serialize_data=False)[1]['inputs'], dataset[1]['inputs'])


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


def test_class_folders(tmp_path):
    make_images(tmp_path / 'n02', 0, 1)
    make_images(tmp_path / 'n01' / 'inner', 2)
    (tmp_path / 'n00').mkdir()
    make_images(tmp_path, 9)
    dataset = folder(tmp_path, with_label=True)
    assert dataset.CLASSES == ('n00', 'n01', 'n02')
    assert [dataset.get_data_info(i)['gt_label'] for i in range(len(dataset))] == [1, 2, 2]
    assert dataset[0]['data_samples'].gt_label.item() == 1
    assert names(dataset) == ['n01/inner/002.png', 'n02/000.png', 'n02/001.png']


def test_folders_that_are_refused(tmp_path, monkeypatch):
    def refused(message, path=tmp_path, **options):
        with pytest.raises(InputError, match=message):
            ImageFolder(str(path), **options)

    refused(r'there is no image folder .*nowhere.*data_root', tmp_path / 'nowhere')
    for name in ('notes.txt', 'photo.heic', 'other.heic'):
        (tmp_path / name).touch()
    refused('notes.txt is a file', tmp_path / 'notes.txt')
    refused(r'no images in .*looked for .*\.webp.*found 2 x \.heic, 1 x \.txt')
    make_images(tmp_path, 0)
    refused('no class folders in .*with_label', with_label=True)
    (tmp_path / 'a').mkdir()
    refused('hold no images', with_label=True)
    make_images(tmp_path / 'a', 1)
    refused('1 class folders, but 2 classes', with_label=True, classes=['x', 'y'])
    for share in (-0.1, 1.5):
        refused('max_unreadable_share', max_unreadable_share=share)
    scandir = os.scandir

    def closed(path):
        if os.path.basename(path) == 'a':
            raise PermissionError(13, 'Permission denied', path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', closed)
    refused('cannot list the folder .*a: Permission denied')


def test_unreadable_images_are_replaced_by_the_next(tmp_path, monkeypatch):
    paths = broken_folder(tmp_path, broken=(3, 4, 39))
    logged = []
    monkeypatch.setattr('mmmim.datasets.image_folder.print_log', lambda text, *args, **kwargs: logged.append(text))
    dataset = folder(tmp_path, max_unreadable_share=0.1)
    assert dataset.unreadable == []
    for _ in range(2):
        assert [number(dataset[i]) for i in (2, 3, 4, 5, 39)] == [2, 5, 5, 5, 0]
    assert dataset.unreadable == paths
    assert [sum(path in line for line in logged) for path in paths] == [1, 1, 1]


def test_workers_share_the_count(tmp_path):
    paths = broken_folder(tmp_path)
    dataset = folder(tmp_path, max_unreadable_share=0.1)
    assert numbers(dataset) == REPLACED
    assert dataset.unreadable == paths
    spawned = pickle.loads(ForkingPickler.dumps(dataset))  # what a spawned worker gets
    spawned._flags.add(30)
    assert dataset.unreadable == [*paths, str(tmp_path / '030.png')]


def test_a_limit_that_no_single_worker_exceeds(tmp_path):
    # With batches of 4 and two workers, 3 and 20 fall to the worker of the even batches, 4 and 39 to the other.
    broken_folder(tmp_path, broken=(3, 20, 4, 39))
    # No "pytest.raises": its stack trace keeps the loader in a cycle, which needs seconds to be collected.
    message = ''
    try:
        numbers(folder(tmp_path, max_unreadable_share=0.08))
    except InputError as error:
        message = str(error)
        error.with_traceback(None)
    assert message.startswith(f'4 of the 40 images of {tmp_path}')
    assert '\n' not in message
    for words in ('10.0%', 'max_unreadable_share=0.08', f'cannot read image {tmp_path}'):
        assert words in message


@pytest.mark.parametrize(
    ('options', 'fine', 'message'),
    [
        ({}, (2,), r'2 of the 6 images .*33\.3%.*max_unreadable_share=0\.01'),  # one is tolerated
        ({'max_unreadable_share': 0}, (), '1 of the 6 images'),
        ({'test_mode': True}, (3,), r'cannot read image .*004\.png'),  # replaces nothing
    ],
)
def test_limits(tmp_path, options, fine, message):
    broken_folder(tmp_path, n=6, broken=[2, 4])
    dataset = folder(tmp_path, **options)
    assert [number(dataset[i]) for i in fine] == [3] * len(fine)
    with pytest.raises(InputError, match=message):
        dataset[4]


def test_no_readable_image_and_other_errors(tmp_path):
    broken_folder(tmp_path, n=2, broken=[0, 1])
    with pytest.raises(InputError, match='none of the 2 images'):
        folder(tmp_path, max_unreadable_share=1)[0]

    def fail(results):
        raise OSError('a bug')

    with pytest.raises(OSError, match='a bug'):
        ImageFolder(str(tmp_path), pipeline=[fail])[0]


def test_subsets_and_copies_count_for_themselves(tmp_path):
    paths = broken_folder(tmp_path)
    dataset = folder(tmp_path, max_unreadable_share=1)
    dataset[3]
    subset = dataset.get_subset([20, 21, 3])
    assert subset.unreadable == []
    assert number(subset[0]) == 21
    assert subset.unreadable == paths[2:]
    copied = copy.deepcopy(dataset)
    assert number(copied[20]) == 21
    assert copied.unreadable == paths
    assert dataset.unreadable == paths[:2]
    dataset.get_subset_([4, 5])
    assert (len(dataset), dataset.unreadable, number(dataset[0])) == (2, [], 5)
