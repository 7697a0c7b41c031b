"""Small folders in the exact layout of every data set of whole images."""

from __future__ import annotations

import itertools
import json
import shutil
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mat4py import savemat
from mmpretrain.datasets import categories
from PIL import Image

from mmmim.datasets.classification.imagenet_tests import imagenet_classes

SIZE = (12, 8)
WNIDS = imagenet_classes()
_colours = itertools.count(1)


def picture(path: Path) -> None:
    """An image whose colour no other has, one number for all three channels but for red, which is greater."""
    path.parent.mkdir(parents=True, exist_ok=True)
    value = next(_colours) % 200
    Image.new('RGB', SIZE, (value + 50, value, value)).save(path, 'PNG')


def pictures(root: Path, names: Iterable[str]) -> None:
    for name in names:
        picture(root / name)


def text(path: Path, content: str | Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else '\n'.join(content) + '\n')


@dataclass(frozen=True)
class Layout:
    """How a data set lies on disk.

    Attributes:
        write: Writes it into ``data/`` of the current folder.
        train, val: Labels that are expected, in order.
        classes: Some of the classes by label.
        folder: What is removed for the sentence about what is missing.
        lists: Files that name images, and what in them is a path; these are attacked.
    """

    write: Callable[[Path], None]
    train: list
    val: list
    classes: dict[int, str]
    folder: str
    lists: dict[str, str] = field(default_factory=dict)


def folders(*roots: str, names: tuple[str, ...] = ('cat', 'dog'), number: int = 2) -> Callable[[Path], None]:
    """The same class folders in several folders, the second class with an image more."""

    def write(data: Path) -> None:
        for root in roots:
            for i, name in enumerate(names):
                pictures(data / root / name, [f'{name}_{j}.JPEG' for j in range(number + i)])

    return write


def imagenet(data: Path) -> None:
    folders('imagenet/train', 'imagenet/val', names=WNIDS[:2])(data)
    text(data / 'imagenet/1percent.txt', [f'{WNIDS[1]}_2.JPEG', f'{WNIDS[0]}_1.JPEG'])
    shutil.copy(data / 'imagenet/1percent.txt', data / 'imagenet/10percent.txt')


def labelled_folders(root: str, labels: Iterable[int], numbered: bool = False) -> Callable[[Path], None]:
    """An image of each class, in folders that are called by the class's number or by WordNet ids."""

    def write(data: Path) -> None:
        imagenet(data)
        (data / root).mkdir(parents=True)
        text(data / root / 'README.txt', 'about it')
        picture(data / 'one.png')
        for label in labels:
            folder = data / root / (str(label) if numbered else WNIDS[label])
            folder.mkdir()
            (folder / 'a.jpg').hardlink_to(data / 'one.png')

    return write


def python2_text(value: bytes) -> bytes:
    return (b'U' + bytes([len(value)]) if len(value) < 256 else b'T' + struct.pack('<i', len(value))) + value


def python2_batch(pixels: np.ndarray, labels: dict[str, list[int]]) -> bytes:
    """A dict as Python 2 pickled it in protocol 2, opcode by opcode, as the files of CIFAR are."""
    rows = struct.pack('<i', len(pixels))
    kind = b'cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb'
    array = b'cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01J' + rows
    array += b'M\x00\x0c\x86' + kind + b'\x89' + python2_text(pixels.tobytes()) + b'tb'
    items = python2_text(b'batch_label') + python2_text(b'training batch 1 of 5')
    for name, numbers in labels.items():
        items += python2_text(name.encode()) + b'](' + b''.join(b'K' + bytes([n]) for n in numbers) + b'e'
    return b'\x80\x02}(' + items + python2_text(b'data') + array + b'u.'


def cifar(files: dict[str, list[int]], root: str, name: str, **more: list[int]) -> Callable[[Path], None]:
    def write(data: Path) -> None:
        for i, (file, labels) in enumerate(files.items()):
            pixels = np.random.default_rng(i).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
            path = data / root / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(python2_batch(pixels, {name: labels, **{k: v * len(labels) for k, v in more.items()}}))

    return write


CIFAR10 = {**{f'data_batch_{i}': [i, 0] for i in range(1, 6)}, 'test_batch': [9, 3, 0]}


def places205(data: Path) -> None:
    names = ['a/abbey/1.jpg', 'a/airport_terminal/2.jpg', 'y/yard/3.jpg', 'a/abbey/v1.jpg']
    pictures(data / 'places205/images256', names)
    text(data / 'places205/train_places205.csv', [f'{names[0]} 0', f'{names[1]} 1', f'{names[2]} 204'])
    text(data / 'places205/val_places205.csv', f'{names[3]} 0\n')


def places365(data: Path) -> None:
    root = data / 'places365'
    names = ['/a/airfield/00000001.jpg', '/a/apartment_building/outdoor/00000001.jpg']
    pictures(root / 'data_256_standard', [name[1:] for name in names])
    pictures(root / 'val_256', ['Places365_val_00000001.jpg'])
    text(root / 'categories_places365.txt', ['/a/airfield 0', '/a/apartment_building/outdoor 1', '/z/zen_garden 2'])
    text(root / 'places365_train_standard.txt', [f'{names[0]} 0', f'{names[1]} 1'])
    text(root / 'places365_val.txt', 'Places365_val_00000001.jpg 1\n')


def sun397(data: Path) -> None:
    root = data / 'sun397'
    names = ['/a/abbey/sun_a.jpg', '/a/apartment_building/outdoor/sun_b.jpg', '/a/abbey/sun_c.jpg', '/y/yard/sun_d.jpg']
    pictures(root / 'SUN397', [name[1:] for name in names])
    for partition, order in (('01', (0, 1, 2, 3)), ('02', (3, 2, 1, 0))):
        text(root / f'Partitions/Training_{partition}.txt', [names[i] for i in order[:2]])
        text(root / f'Partitions/Testing_{partition}.txt', [names[i] for i in order[2:]])


def objectnet(data: Path) -> None:
    imagenet(data)
    root = data / 'objectnet-1.0'
    pictures(root / 'images', ['alarm_clock/b.png', 'alarm_clock/a.png', 'air_freshener/c.png', 'backpack/d.png'])
    names = ['tench', 'analog clock', 'digital clock', 'backpack, back pack']
    for name, content in {
        'folder_to_objectnet_label.json': {
            'air_freshener': 'Air freshener',
            'alarm_clock': 'Alarm clock',
            'backpack': 'Backpack',
        },
        'objectnet_to_imagenet_1k.json': {
            'Alarm clock': 'analog clock; digital clock',
            'Backpack': 'backpack, back pack',
        },
        'pytorch_to_imagenet_2012_id.json': {'0': 0, '409': 1, '530': 2, '414': 3},
    }.items():
        text(root / 'mappings' / name, json.dumps(content))
    text(root / 'mappings/imagenet_to_label_2012_v2', names)


def caltech101(data: Path) -> None:
    root = data / 'caltech-101'
    pictures(root / '101_ObjectCategories', ['Faces/1.jpg', 'yin_yang/1.jpg', 'Faces/2.jpg'])
    text(root / 'meta/train.txt', ['Faces/1.jpg 1', 'yin_yang/1.jpg 101'])
    text(root / 'meta/test.txt', ['Faces/2.jpg 1'])


def mat(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(str(path), content)


def dtd(data: Path) -> None:
    names = ['banded/banded_0002.jpg', 'blotchy/blotchy_0003.jpg', 'banded/banded_0004.jpg', 'zigzagged/z.jpg']
    pictures(data / 'dtd/images', names)
    mat(data / 'dtd/imdb/imdb.mat', {'images': {'name': names, 'class': [1, 2, 1, 47], 'set': [1, 2, 3, 3]}})


def flowers102(data: Path) -> None:
    root = data / 'oxford_flowers'
    pictures(root / 'jpg', [f'image_{i:05d}.jpg' for i in range(1, 7)])
    mat(root / 'imagelabels.mat', {'labels': [77, 1, 102, 77, 2, 1]})
    mat(root / 'setid.mat', {'trnid': [2, 5], 'valid': [1, 3], 'tstid': [4, 6]})


def pets(data: Path) -> None:
    root = data / 'oxford_pets'
    names = ['Abyssinian_1', 'yorkshire_terrier_2', 'american_bulldog_3']
    pictures(root / 'images', [f'{name}.jpg' for name in names])
    text(root / 'annotations/trainval.txt', [f'{names[0]} 1 1 1', f'{names[1]} 37 2 25'])
    text(root / 'annotations/test.txt', [f'{names[2]} 2 2 1'])


def cars(data: Path) -> None:
    root = data / 'stanford_cars'
    pictures(root, ['cars_train/00001.jpg', 'cars_train/00002.jpg', 'cars_test/00001.jpg', 'cars_test/00002.jpg'])
    for name, labels in (('train_annos', [14, 3]), ('test_annos_withlabels', [196, 1])):
        mat(root / f'devkit/cars_{name}.mat', {'annotations': {'fname': ['00001.jpg', '00002.jpg'], 'class': labels}})


def food101(data: Path) -> None:
    root = data / 'food-101'
    pictures(root / 'images', ['apple_pie/1.jpg', 'waffles/2.jpg', 'apple_pie/3.jpg'])
    text(root / 'meta/train.txt', ['apple_pie/1', 'waffles/2'])
    text(root / 'meta/test.txt', ['apple_pie/3'])


def clevr(data: Path) -> None:
    root = data / 'clevr/CLEVR_v1.0'
    for split, scenes in (('train', {'1': [9.0, 8.5, 12.0], '0': [11.0] * 10}), ('val', {'0': [7.0] * 4})):
        name = f'CLEVR_{split}_00000{{}}.png'.format
        pictures(root / f'images/{split}', map(name, scenes))
        content = [
            {'image_filename': name(i), 'objects': [{'pixel_coords': [1, 2, depth]} for depth in depths]}
            for i, depths in scenes.items()
        ]
        text(root / f'scenes/CLEVR_{split}_scenes.json', json.dumps({'scenes': content}))


def coop(root: str, images: str, name: str) -> Callable[[Path], None]:
    """A list of two classes, whose images lie flat or in folders."""

    def write(data: Path) -> None:
        lists = {
            'train': [['cat/1.jpg', 0, 'cat'], ['a dog/2.jpg', 1, 'a dog']],
            'val': [['cat/3.jpg', 0, 'cat']],
            'test': [['a dog/4.jpg', 1, 'a dog'], ['cat/5.jpg', 0, 'cat']],
        }
        pictures(data / root / images, [path for part in lists.values() for path, *_ in part])
        text(data / root / f'split_zhou_{name}.json', json.dumps(lists))

    return write


def coop_layout(root: str, images: str, name: str) -> Layout:
    return Layout(
        coop(root, images, name),
        [0, 1],
        [1, 0],
        {0: 'cat', 1: 'a dog'},
        root,
        {f'{root}/split_zhou_{name}.json': 'cat/1'},
    )


def imagenet_test(root: str, labels: list[int], numbered: bool = False) -> Layout:
    return Layout(labelled_folders(root, labels, numbered), [0, 0, 1, 1, 1], sorted(labels), {}, root)


FOLDERS = {'train': [0, 0, 1, 1, 1], 'val': [0, 0, 1, 1, 1]}
TWO_HUNDRED = list(range(3, 1000, 5))[:200]
LAYOUTS: dict[str, Layout] = {
    'imagenet': Layout(imagenet, **FOLDERS, classes={0: WNIDS[0], 1: WNIDS[1]}, folder='imagenet'),
    **{
        f'imagenet_{share}pct': Layout(
            imagenet,
            [0, 1],
            FOLDERS['val'],
            {0: WNIDS[0]},
            'imagenet',
            {f'imagenet/{share}percent.txt': f'{WNIDS[1]}_2'},
        )
        for share in (1, 10)
    },
    'imagenet100': Layout(
        folders('imagenet100/train', 'imagenet100/val', names=WNIDS[5:7]),
        **FOLDERS,
        classes={1: WNIDS[6]},
        folder='imagenet100',
    ),
    'imagenet_a': imagenet_test('imagenet-a', TWO_HUNDRED),
    'imagenet_r': imagenet_test('imagenet-r', TWO_HUNDRED),
    'imagenet_sketch': imagenet_test('imagenet-sketch', list(range(1000))),
    # Folders in the order of their names, which is not that of their numbers.
    'imagenet_v2': Layout(
        labelled_folders('imagenetv2-matched-frequency-format-val', range(1000), numbered=True),
        FOLDERS['train'],
        [int(name) for name in sorted(map(str, range(1000)))],
        {},
        'imagenetv2-matched-frequency-format-val',
    ),
    'objectnet': Layout(
        objectnet,
        FOLDERS['train'],
        [[409, 530], [409, 530], [414]],
        {},
        'objectnet-1.0',
        {'objectnet-1.0/mappings/folder_to_objectnet_label.json': 'alarm_clock'},
    ),
    'cifar10': Layout(
        cifar(CIFAR10, 'cifar10/cifar-10-batches-py', 'labels'),
        [1, 0, 2, 0, 3, 0, 4, 0, 5, 0],
        [9, 3, 0],
        {0: 'airplane', 9: 'truck'},
        'cifar10',
    ),
    'cifar100': Layout(
        cifar({'train': [99, 0], 'test': [7]}, 'cifar100/cifar-100-python', 'fine_labels', coarse_labels=[1]),
        [99, 0],
        [7],
        {0: 'apple', 99: 'worm'},
        'cifar100',
    ),
    'inat2021': Layout(
        folders('inat2021/2021_train', 'inat2021/2021_valid', names=('00000_Animalia_a', '00001_Plantae_b')),
        **FOLDERS,
        classes={1: '00001_Plantae_b'},
        folder='inat2021',
    ),
    'inat2021_mini': Layout(
        folders('inat2021/2021_train_mini', 'inat2021/2021_valid', names=('00000_Animalia_a', '00001_Plantae_b')),
        **FOLDERS,
        classes={0: '00000_Animalia_a'},
        folder='inat2021',
    ),
    'folder': Layout(folders('folder/train', 'folder/val'), **FOLDERS, classes={0: 'cat', 1: 'dog'}, folder='folder'),
    'places205': Layout(
        places205,
        [0, 1, 204],
        [0],
        {0: 'abbey', 204: 'yard'},
        'places205',
        {'places205/train_places205.csv': 'y/yard/3', 'places205/val_places205.csv': 'a/abbey/v1'},
    ),
    'places365': Layout(
        places365,
        [0, 1],
        [1],
        {0: 'airfield', 1: 'apartment_building/outdoor'},
        'places365',
        {
            'places365/places365_train_standard.txt': '/a/airfield/00000001',
            'places365/places365_val.txt': 'Places365_val_00000001',
        },
    ),
    'sun397': Layout(
        sun397,
        [0, 8],
        [0, 395],
        {8: 'apartment_building_outdoor', 395: 'yard'},
        'sun397',
        {'sun397/Partitions/Training_01.txt': '/a/abbey/sun_a'},
    ),
    'caltech101': Layout(
        caltech101, [1, 101], [1], {1: 'Faces'}, 'caltech-101', {'caltech-101/meta/train.txt': 'Faces/1'}
    ),
    'dtd': Layout(dtd, [0, 1], [0, 46], {0: 'banded'}, 'dtd', {'dtd/imdb/imdb.mat': 'banded/banded_0002'}),
    'flowers102': Layout(flowers102, [0, 1, 76, 101], [76, 0], {76: 'passion flower'}, 'oxford_flowers'),
    'pets': Layout(
        pets,
        [0, 36],
        [1],
        {36: 'yorkshire_terrier'},
        'oxford_pets',
        {'oxford_pets/annotations/test.txt': 'american_bulldog_3'},
    ),
    'cars': Layout(
        cars,
        [13, 2],
        [195, 0],
        {0: categories.STANFORDCARS_CATEGORIES[0]},
        'stanford_cars',
        {'stanford_cars/devkit/cars_train_annos.mat': '00001'},
    ),
    'food101': Layout(food101, [0, 100], [0], {100: 'waffles'}, 'food-101', {'food-101/meta/train.txt': 'apple_pie/1'}),
    'clevr_count': Layout(
        clevr, [7, 0], [1], {7: '7'}, 'clevr', {'clevr/CLEVR_v1.0/scenes/CLEVR_val_scenes.json': 'CLEVR_val_000000'}
    ),
    'clevr_distance': Layout(clevr, [5, 1], [0], {5: '5'}, 'clevr'),
    'caltech101_coop': coop_layout('caltech-101', '101_ObjectCategories', 'Caltech101'),
    'dtd_coop': coop_layout('dtd', 'images', 'DescribableTextures'),
    'flowers102_coop': coop_layout('oxford_flowers', 'jpg', 'OxfordFlowers'),
    'pets_coop': coop_layout('oxford_pets', 'images', 'OxfordPets'),
    'cars_coop': coop_layout('stanford_cars', '', 'StanfordCars'),
    'sun397_coop': coop_layout('sun397', 'SUN397', 'SUN397'),
    'ucf101_coop': coop_layout('ucf101', 'UCF-101-midframes', 'UCF101'),
}
