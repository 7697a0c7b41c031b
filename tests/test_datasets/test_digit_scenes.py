import runpy

import pytest

from mmmim.datasets import digit_scenes_generator as generator
from mmmim.datasets.digit_scenes import CHECKSUMS
from mmmim.datasets.digit_scenes_generator import generate
from mmmim.datasets.scenes_generator import SPLITS, SUBSETS, checksum
from tests.paths import ROOT


@pytest.fixture
def small(monkeypatch):
    """A few images per split instead of thousands."""
    for subset in SUBSETS:
        monkeypatch.setitem(generator.NUM_IMAGES, subset, {'train': 30, 'val': 6, 'test': 8})


@pytest.mark.parametrize('split', SPLITS)
@pytest.mark.parametrize('subset', SUBSETS)
def test_pixels_and_labels_are_frozen(subset, split):
    assert checksum(generate(subset, split)) == CHECKSUMS[subset][split]


def test_command_line(small, tmp_path, monkeypatch, capsys):
    def convert(out):
        monkeypatch.setattr('sys.argv', ['digit_scenes.py', '--out', str(out)])
        runpy.run_path(str(ROOT / 'tools/dataset_converters/digit_scenes.py'), run_name='__main__')

    convert(tmp_path / 'x')
    printed = capsys.readouterr().out
    assert f'{tmp_path}/x/single: 32 px; 30 train, 6 val, 8 test images' in printed
    assert f'{tmp_path}/x/multi: 64 px; 30 train, 6 val, 8 test images' in printed
    (tmp_path / 'single').mkdir()
    with pytest.raises(SystemExit) as caught:
        convert(tmp_path)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f'error: {tmp_path}/single is not a complete DigitScenes folder')
