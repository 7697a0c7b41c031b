"""``mmmim stats``: what a folder of images is, and the lines of a config."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from mmmim.cli.stats import main
from mmmim.datasets.statistics import header_size, measure


def folder(path, channels=5, number=7, dtype=np.uint16, high=4096):
    rng = np.random.default_rng(0)
    path.mkdir()
    images = [rng.integers(0, high, (8 + i, 20, channels)).astype(dtype) for i in range(number)]
    for i, image in enumerate(images):
        np.save(path / f'{i}.npy', image)
    return images


@pytest.mark.parametrize('workers', [0, 2])
def test_statistics_are_those_of_all_pixels(tmp_path, workers):
    images = folder(tmp_path / 'a')
    found = measure(sorted(map(str, (tmp_path / 'a').iterdir())), workers=workers)
    pixels = np.concatenate([image.reshape(-1, 5) for image in images]).astype(np.float64)
    np.testing.assert_allclose(found.moments.mean, pixels.mean(0), rtol=1e-13)
    np.testing.assert_allclose(found.moments.std, pixels.std(0), rtol=1e-13)
    assert (found.moments.low == pixels.min(0)).all()
    assert (found.moments.high == pixels.max(0)).all()
    assert (found.heights, found.widths, found.bits, found.images) == ((8, 14), (20, 20), 12, 7)
    assert found.types == {'uint16': 7}


def test_deviations_survive_a_large_mean(tmp_path):
    """The sum of squares would lose all digits."""
    (tmp_path / 'a').mkdir()
    values = 1e9 + np.random.default_rng(0).normal(0, 1e-2, (4, 16, 16, 1))
    for i, image in enumerate(values):
        np.save(tmp_path / f'a/{i}.npy', image)
    found = measure([str(tmp_path / f'a/{i}.npy') for i in range(4)], channels=1)
    assert found.moments.std[0] == pytest.approx(values.std(), rel=1e-5)


def test_the_command(tmp_path, capsys):
    folder(tmp_path / 'a')
    (tmp_path / 'a/broken.npy').write_bytes(b'\x93NUMPY nothing')
    np.save(tmp_path / 'a/grey.npy', np.zeros((8, 8), np.uint8))
    out = tmp_path / 'stats.json'
    main([str(tmp_path / 'a'), '--workers', '0', '--out', str(out)])
    text, data = capsys.readouterr().out, json.loads(out.read_text())
    assert 'Images:    7 read, 2 unreadable' in text
    assert 'broken.npy' in text
    assert 'grey.npy: it has 1 channel(s)' in text
    assert (data['channels'], data['bits'], len(data['unreadable'])) == (5, 12, 2)
    lines = text[text.index('images = dict(') :].partition('\n\nWrote')[0]
    images = eval(lines.removeprefix('images = '))
    assert images == {key: data[key] for key in ('data_root', 'channels', 'mean', 'std')}
    main([str(tmp_path / 'a'), '--workers', '0', '--limit', '3'])
    assert 'Images:    2 read, 1 unreadable' in capsys.readouterr().out


def test_photographs(tmp_path, capsys):
    """Grey ones among colours are colours; what does not fit together is said."""
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / f'{i}.png')
    Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).save(tmp_path / 'grey.png')
    main([str(tmp_path), '--workers', '0'])
    text = capsys.readouterr().out
    assert 'Channels:  3 (1 files have 1, 3 files have 3)' in text
    assert 'WARNING' not in text
    Image.fromarray(rng.integers(0, 4096, (9, 9), dtype=np.uint16)).save(tmp_path / 'deep.png')
    main([str(tmp_path), '--workers', '0'])
    assert 'WARNING: Images are of 2 types of values (uint16, uint8)' in capsys.readouterr().out
    for i in range(6):
        np.save(tmp_path / f'flat{i}.npy', np.zeros((9, 9, 5), np.uint8))
    main([str(tmp_path), '--workers', '0', '--channels', '5'])
    text = capsys.readouterr().out
    assert 'Channel 0, 1, 2, 3, 4 has one value' in text
    assert 'std=[1.0, 1.0, 1.0, 1.0, 1.0]' in text


def test_refusals(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.png').write_bytes(b'nothing')
    for words, message in (
        (['none'], 'There is no folder'),
        (['.', '--out', 'a.txt'], '--out a.txt: give a file that ends in .json'),
        (['.', '--workers', '0'], r'None of the 1 images can be read, for example: .*a\.png'),
    ):
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 2
        assert re.search(message, capsys.readouterr().err)


def test_sizes_from_headers(tmp_path):
    Image.new('RGB', (30, 20)).save(tmp_path / 'a.jpg')
    np.save(tmp_path / 'a.npy', np.zeros((5, 20, 30)))
    (tmp_path / 'b.png').write_bytes(b'nothing')
    sizes = [header_size(str(tmp_path / name)) for name in ('a.jpg', 'a.npy', 'b.png', 'none')]
    assert sizes == [(20, 30), (20, 30), None, None]
