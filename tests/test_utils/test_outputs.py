import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.outputs import check_file, check_folder, check_picture, picture_files
from tests.paths import load_tool
from tests.test_tools.test_visualization import mae_config
from tests.toys import capi_config


def test_a_picture_is_a_file_and_a_folder_holds_many(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert picture_files('out', ['a.png', 'b.png']) == ['out/a.png', 'out/b.png']
    assert picture_files('some/out.v2', ['a.png']) == ['some/out.v2/a.png']
    for name in ('x.png', 'deep/x.PDF', 'x.svg'):
        assert picture_files(name, ['a.png']) == [name]
    with pytest.raises(InputError, match=r'--out x\.png is one picture, and a\.png, b\.png and c\.png are written'):
        picture_files('x.png', ['a.png', 'b.png', 'c.png'])
    for name in ('x.jpeg', 'x.tif', 'x.gif'):
        with pytest.raises(InputError, match=r'give a file that ends in \.png, \.pdf, \.svg or \.jpg'):
            picture_files(name, ['a.png'])
    (tmp_path / 'folder.png').mkdir()
    assert picture_files('folder.png', ['a.png', 'b.png']) == ['folder.png/a.png', 'folder.png/b.png']
    assert not (tmp_path / 'out').exists()


def test_files_and_folders_in_each_others_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'file').touch()
    (tmp_path / 'folder.png').mkdir()
    for call in (
        lambda: check_folder('file'),
        lambda: check_folder('file/below/it'),
        lambda: picture_files('file', ['a.png']),
        lambda: picture_files('file/x.png', ['a.png']),
    ):
        with pytest.raises(InputError, match='file is a file, not a folder: give another name'):
            call()
    for call in (lambda: check_file('folder.png'), lambda: check_picture('folder.png')):
        with pytest.raises(InputError, match=r'--out folder\.png is a folder: give the name of a file'):
            call()
    check_folder('new/folder')
    check_file('new.json')


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """A tool in a folder with images, ``capi.pth`` and ``mae.pth``."""
    monkeypatch.chdir(tmp_path)
    for name, config in (('capi', capi_config()), ('mae', mae_config())):
        torch.manual_seed(0)
        state = MODELS.build(config).state_dict()
        torch.save({'state_dict': state, 'mmmim': {'version': 1, 'model': config}}, f'{name}.pth')
    (tmp_path / 'images').mkdir()
    for i in range(2):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f'images/{i}.png')

    def run(tool, *args):
        """Status and error message."""
        monkeypatch.setattr(sys, 'argv', [tool, *args, '--device', 'cpu'])
        try:
            load_tool(tool).main()
        except SystemExit as error:
            return error.code, capsys.readouterr().err
        return 0, capsys.readouterr().out

    return run


TOOLS = {
    'visualization/vis_reconstruction': ['images', 'mae.pth'],
    'visualization/vis_attention': ['capi.pth', 'images'],
    'visualization/vis_pca': ['images', 'capi.pth', '--sizes', '16'],
    'visualization/vis_tsne': ['capi.pth', 'images', '--perplexity', '1', '--workers', '0'],
    'analysis_tools/attention_distance': ['capi.pth', 'images'],
}


@pytest.mark.parametrize('tool', TOOLS)
def test_a_name_of_a_picture_is_never_a_folder(tool, run, tmp_path):
    status, message = run(tool, *TOOLS[tool], '--out', 'new/x.png')
    if tool.endswith('vis_pca'):
        assert (status, 'resolutions.png and channels.png are written: give a folder' in message) == (2, True)
        assert not (tmp_path / 'new').exists()
    else:
        assert status == 0
        assert Image.open(tmp_path / 'new/x.png').size[0] > 10
        assert {path.name for path in (tmp_path / 'new').iterdir()} <= {'x.png', 'x.npz', 'x.json'}


@pytest.mark.parametrize('tool', [*TOOLS, 'analysis_tools/rankme'])
def test_a_file_where_a_folder_should_be(tool, run, tmp_path):
    (tmp_path / 'taken').touch()
    name = 'taken/x/y' if tool.endswith(('vis_pca', 'rankme')) else 'taken/x/y.png'
    option = ['--out-dir' if tool.endswith('rankme') else '--out', name]
    status, message = run(tool, *TOOLS.get(tool, ['capi.pth', 'images']), *option)
    assert (status, 'is a file, not a folder: give another name' in message) == (2, True)


def test_pictures_of_attention_are_counted_before_they_are_made(run, tmp_path):
    args = ['capi.pth', 'images', '--out', 'x.png']
    assert run('visualization/vis_attention', *args, '--extra-tokens')[0] == 0
    status, message = run('visualization/vis_attention', *args, '--extra-tokens', '--query', '0', '0')
    assert (status, 'queries.png and extra_tokens.png are written' in message) == (2, True)


def test_attention_is_of_images_as_in_training(run):
    """And says what a larger one costs; what no machine holds is refused before an image is read."""
    status, output = run('visualization/vis_attention', 'capi.pth', 'images', '--out', 'out')
    assert (status, '20 tokens of 16 px in 2 heads: 0.00 GB for a block.' in output) == (0, True)
    status, message = run('visualization/vis_attention', 'capi.pth', 'images', '--out', 'out', '--size', '200000')
    assert status == 2
    assert 'The attention of 2500000004 tokens of 200000 px needs' in message
    assert 'give a smaller --size (trained with 16)' in message
    assert run('visualization/vis_attention', 'capi.pth', 'images', '--size', '0')[0] == 2
