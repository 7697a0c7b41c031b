import numpy as np
import pytest
from PIL import Image

from mmmim.cli.inputs import find_classes, find_images, pick_device
from mmmim.datasets.squares import nearest_multiple, read_square, read_stretched
from mmmim.utils import InputError
from mmmim.utils.outputs import check_picture


def test_images_of_files_and_folders_evenly(tmp_path):
    for i in range(10):
        folder = tmp_path / str(i // 5)
        folder.mkdir(exist_ok=True)
        Image.new('RGB', (4, 4)).save(folder / f'{i}.png')
    names = [str(tmp_path / str(i // 5) / f'{i}.png') for i in range(10)]
    assert find_images([str(tmp_path)], 10) == names
    assert find_images([names[7], names[2]], 10) == [names[7], names[2]]
    assert find_images([str(tmp_path)], 2) == [names[2], names[7]]
    assert len(set(find_images([str(tmp_path)], 9))) == 9


def test_no_images(tmp_path):
    with pytest.raises(InputError, match=r'no image file or folder .*none\.png'):
        find_images([str(tmp_path / 'none.png')], 8)
    with pytest.raises(InputError, match='No images in'):
        find_images([str(tmp_path)], 8)
    with pytest.raises(InputError, match='1 or more'):
        find_images([str(tmp_path)], 0)


def test_images_of_class_folders(tmp_path):
    for name in ('b/1.png', 'b/x/2.png', 'a/1.png', 'a/2.png', 'a/3.png', 'beside.png', 'c/text.txt'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(folder, classes=None, limit=9):
        return {
            name: [path.removeprefix(f'{folder}/') for path in paths]
            for name, paths in find_classes(str(folder), classes, limit).items()
        }

    assert names(tmp_path) == {'a': ['a/1.png', 'a/2.png', 'a/3.png'], 'b': ['b/1.png', 'b/x/2.png']}
    assert [*names(tmp_path)] == ['a', 'b']
    assert [*names(tmp_path, ['b', 'a', 'b']).items()] == [
        ('b', ['b/1.png', 'b/x/2.png']),
        ('a', ['a/1.png', 'a/2.png', 'a/3.png']),
    ]
    assert names(tmp_path, limit=1) == {'a': ['a/2.png'], 'b': ['b/x/2.png']}
    assert names(tmp_path / 'a') == {'a': ['1.png', '2.png', '3.png']}
    for folder, classes, message in (
        ('none', None, 'There is no folder'),
        ('c', None, 'No images in'),
        ('', ['bb'], 'no class folder bb with images.*Did you mean b.*There are a, b'),
        ('', ['c'], 'no class folder c with images'),
        ('a', ['a'], 'its images have no classes'),
    ):
        with pytest.raises(InputError, match=message):
            find_classes(str(tmp_path / folder), classes, 9)
    with pytest.raises(InputError, match='1 or more'):
        find_classes(str(tmp_path), None, 0)


@pytest.mark.parametrize('size', [(30, 20), (20, 30), (20, 20), (7, 301)])
def test_centre_square(tmp_path, size):
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1] = 255
    Image.fromarray(image).save(tmp_path / 'a.png')
    square = read_square(str(tmp_path / 'a.png'), 40)
    assert square.shape == (40, 40, 3)
    bright = np.argwhere(square[..., 0] > 128).mean(axis=0)
    # Of an odd width, the bright spot is half a pixel, here up to 3, beside the middle.
    np.testing.assert_allclose(bright, 19.5, atol=3)


def test_the_whole_image_is_stretched(tmp_path):
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, :10] = image[9] = 255
    Image.fromarray(image).save(tmp_path / 'a.png')
    square = read_stretched(str(tmp_path / 'a.png'), 40)
    bright = np.zeros((40, 40), bool)
    bright[:, :10] = bright[36:] = True
    assert square.shape == (40, 40, 3)
    assert np.mean((square[..., 0] > 128) == bright) > 0.99


def test_unreadable_image_is_named(tmp_path):
    (tmp_path / 'bad.png').write_text('no image')
    with pytest.raises(InputError, match=r'bad\.png'):
        read_square(str(tmp_path / 'bad.png'), 8)


def test_names_of_pictures():
    for name in ('a.png', 'b/a.PDF', 'a.svg', 'a.jpg'):
        check_picture(name)
    with pytest.raises(InputError, match=r'--out a\.npz: give a file that ends in \.png'):
        check_picture('a.npz')


def test_sizes_and_devices():
    assert [nearest_multiple(size, 14) for size in (224, 225, 232, 3, 560)] == [224, 224, 238, 14, 560]
    with pytest.raises(InputError, match='0 pixels'):
        nearest_multiple(0, 14)
    assert pick_device('cpu').type == 'cpu'
    with pytest.raises(InputError, match='--device abc'):
        pick_device('abc')
