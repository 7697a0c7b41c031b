import numpy as np
import pytest
from PIL import Image

from mmmim.cli.inputs import find_classes, find_images, pick_device
from mmmim.datasets.squares import nearest_multiple, read_square, read_stretched
from mmmim.utils import InputError
from mmmim.utils.outputs import check_picture


def test_images_of_files_and_folders_evenly(tmp_path):
    names = [str(tmp_path / str(i // 5) / f'{i}.png') for i in range(10)]
    for i, name in enumerate(names):
        (tmp_path / str(i // 5)).mkdir(exist_ok=True)
        Image.new('RGB', (4, 4)).save(name)
    assert find_images([str(tmp_path)], 10) == names
    assert find_images([names[7], names[2]], 10) == [names[7], names[2]]
    assert find_images([str(tmp_path)], 2) == [names[2], names[7]]
    assert len(set(find_images([str(tmp_path)], 9))) == 9
    (tmp_path / 'empty').mkdir()
    for source, limit, message in (
        ('none.png', 8, r'no image file or folder .*none\.png'),
        ('empty', 8, 'No images in'),
        ('', 0, '1 or more'),
    ):
        with pytest.raises(InputError, match=message):
            find_images([str(tmp_path / source)], limit)


def test_images_of_class_folders(tmp_path):
    for name in ('b/1.png', 'b/x/2.png', 'a/1.png', 'a/2.png', 'a/3.png', 'beside.png', 'c/text.txt'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(folder, classes=None, limit=9):
        found = find_classes(str(tmp_path / folder), classes, limit).items()
        return [(name, [path.removeprefix(f'{tmp_path}/') for path in paths]) for name, paths in found]

    a, b = ('a', ['a/1.png', 'a/2.png', 'a/3.png']), ('b', ['b/1.png', 'b/x/2.png'])
    assert names('') == [a, b]
    assert names('', ['b', 'a', 'b']) == [b, a]
    assert names('', limit=1) == [('a', ['a/2.png']), ('b', ['b/x/2.png'])]
    assert names('a') == [a]
    for folder, classes, limit, message in (
        ('none', None, 9, 'There is no folder'),
        ('c', None, 9, 'No images in'),
        ('', ['bb'], 9, 'no class folder bb with images.*Did you mean b.*There are a, b'),
        ('', ['c'], 9, 'no class folder c with images'),
        ('a', ['a'], 9, 'its images have no classes'),
        ('', None, 0, '1 or more'),
    ):
        with pytest.raises(InputError, match=message):
            names(folder, classes, limit)


@pytest.mark.parametrize('size', [(30, 20), (20, 30), (20, 20), (7, 301)])
def test_centre_square(tmp_path, size):
    width, height = size
    image = np.zeros((height, width, 3), np.uint8)
    image[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1] = 255
    Image.fromarray(image).save(tmp_path / 'a.png')
    square = read_square(str(tmp_path / 'a.png'), 40)
    assert square.shape == (40, 40, 3)
    # Of an odd width, the bright spot is half a pixel, here up to 3, beside the middle.
    np.testing.assert_allclose(np.argwhere(square[..., 0] > 128).mean(axis=0), 19.5, atol=3)


def test_the_whole_image_is_stretched(tmp_path):
    image = np.zeros((10, 40, 3), np.uint8)
    image[:, :10] = image[9] = 255
    Image.fromarray(image).save(tmp_path / 'a.png')
    square = read_stretched(str(tmp_path / 'a.png'), 40)
    bright = np.zeros((40, 40), bool)
    bright[:, :10] = bright[36:] = True
    assert square.shape == (40, 40, 3)
    assert np.mean((square[..., 0] > 128) == bright) > 0.99


def test_names_sizes_and_devices(tmp_path):
    for name in ('a.png', 'b/a.PDF', 'a.svg', 'a.jpg'):
        check_picture(name)
    assert [nearest_multiple(size, 14) for size in (224, 225, 232, 3, 560)] == [224, 224, 238, 14, 560]
    assert pick_device('cpu').type == 'cpu'
    (tmp_path / 'bad.png').write_text('no image')
    for act, message in (
        (lambda: check_picture('a.npz'), r'--out a\.npz: give a file that ends in \.png'),
        (lambda: nearest_multiple(0, 14), '0 pixels'),
        (lambda: pick_device('abc'), '--device abc'),
        (lambda: read_square(str(tmp_path / 'bad.png'), 8), r'bad\.png'),
    ):
        with pytest.raises(InputError, match=message):
            act()
