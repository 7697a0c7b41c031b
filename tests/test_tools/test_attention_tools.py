import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mmmim.datasets.squares import read_square, read_stretched
from mmmim.features.attention_maps import attention_distance, attention_maps
from mmmim.registry import MODELS
from tests.paths import load_tool
from tests.toys import capi_config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with a checkpoint ``a.pth``, one without extra tokens, and three wide images."""
    monkeypatch.chdir(tmp_path)
    plain = capi_config()
    plain['backbone']['num_registers'] = 0
    for name, config in (('a.pth', capi_config()), ('plain.pth', plain)):
        torch.manual_seed(0)
        state = MODELS.build(config).state_dict()
        torch.save({'state_dict': state, 'mmmim': {'version': 1, 'model': config}}, name)
    (tmp_path / 'images').mkdir()
    (tmp_path / 'empty').mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 32, 3), dtype=np.uint8)).save(f'images/{i}.png')
    return tmp_path


@pytest.fixture
def run(monkeypatch, capsys):
    def run(tool, *args, code=0):
        module = load_tool(tool)
        monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
        if not code:
            module.main()
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as exit_info:
            module.main()
        assert exit_info.value.code == code
        return capsys.readouterr().err

    return run


VIS, DISTANCE = 'visualization/vis_attention', 'analysis_tools/attention_distance'


def test_pictures(folder, run, monkeypatch):
    import mmmim.visualization.attention as module

    drawn, draw = {}, module.draw_attention

    def noted(examples, queries, layers, path, title, signed=False):
        drawn[path.split('/')[-1]] = (examples, [query.name for query in queries], layers, signed)
        draw(examples, queries, layers, path, title, signed)

    monkeypatch.setattr(module, 'draw_attention', noted)
    args = ('a.pth', '--size', 17, '--out', 'out', '--device', 'cpu', 'images/0.png', 'images/1.png')
    output = run(
        VIS, *args, '--layers', 'all', '--query', 0, 3, '--query', 2, 1, '--extra-tokens', '--averaged', 'images'
    )
    assert 'does not divide 17: 16 pixels instead' in output
    assert '[3/3] images' in output
    assert {path.name for path in (folder / 'out').iterdir()} == set(drawn)
    assert {name: picture[1:] for name, picture in drawn.items()} == {
        'queries.png': (['patch 0, 3', 'patch 2, 1'], [0, 1], False),
        'extra_tokens.png': ([f'register {i}' for i in (1, 2, 3, 4)], [0, 1], False),
        'averaged.png': ([f'register {i}' for i in (1, 2, 3, 4)], [0, 1], False),
    }

    # What is drawn is what the encoder attends to, of the stretched image.
    import mmmim

    extractor = mmmim.get_model('a.pth')
    images = [read_stretched(f'images/{i}.png', 16) for i in range(3)]
    batch = extractor.preprocess(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
    maps = torch.stack(attention_maps(extractor.backbone, batch, [0, 1]), dim=1).mean(dim=2)  # B layers L L
    (_, image, of_first), _ = drawn['queries.png'][0]
    assert np.array_equal(image, images[0])
    torch.testing.assert_close(of_first[:, 0].flatten(-2), maps[0][:, [4 + 3, 4 + 9], 4:])
    torch.testing.assert_close(drawn['extra_tokens.png'][0][1][2][:, 0].flatten(-2), maps[1][:, :4, 4:])
    torch.testing.assert_close(drawn['averaged.png'][0][0][2][:, 0].flatten(-2), maps.mean(dim=0)[:, :4, 4:])

    run(VIS, *args, '--heads', 'each', '--subtract-extra')
    examples, queries, layers, signed = drawn['queries.png']
    assert (queries, layers, signed) == (['patch 2, 2'], [1], True)
    assert examples[0][2].shape == (1, 2, 1, 4, 4)
    assert examples[0][2].min() < 0


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['a.pth'], 'Nothing to look at: give IMAGES, or --averaged FOLDER'),
        (['a.pth', 'images', '--query', '4', '0'], 'There is no patch in row 4 and column 0: the image has 4 x 4'),
        (['a.pth', 'images', '--layers', '2'], 'There is no block 2 in an encoder of 2'),
        (['a.pth', 'images', '--layers', 'all', '1'], "--layers all 1: give numbers of blocks, or 'all' alone"),
        (['a.pth', 'empty'], 'No images in empty'),
        (['a.pth', '--averaged', 'empty'], 'No images in empty'),
        (['none.pth', 'images'], 'The checkpoint none.pth does not exist'),
        (['plain.pth', 'images', '--extra-tokens'], 'The encoder has no extra tokens'),
        (['plain.pth', 'images', '--subtract-extra'], 'The encoder has no extra tokens'),
        (['plain.pth', '--averaged', 'images'], 'The encoder has no extra tokens'),
    ],
)
def test_errors_of_pictures(folder, run, args, message):
    assert f'error: {message}' in run(VIS, *args, '--size', '16', code=2)


def test_distances(folder, run):
    import mmmim

    output = run(DISTANCE, 'a.pth', 'images', '--batch', 2, '--out', 'out', '--device', 'cpu')
    result = json.loads((folder / 'out/attention_distance.json').read_text())
    assert (folder / 'out/attention_distance.png').read_bytes()[:4] == b'\x89PNG'
    extractor = mmmim.get_model('a.pth')
    images = [read_square(f'images/{i}.png', 16) for i in range(3)]
    batch = extractor.preprocess(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
    maps = attention_maps(extractor.backbone, batch, [0, 1])
    expected = [attention_distance(one, (4, 4), 4, 4).mean(dim=0) for one in maps]
    torch.testing.assert_close(torch.tensor(result['distance']), torch.stack(expected))
    assert np.allclose(result['mean'], np.mean(result['distance'], axis=1))
    assert (result['images'], result['size'], result['patch_size']) == (3, 16, 4)
    assert '[2/2] batches' in output
    assert '| block | mean | head 0 | head 1 |' in output
    for row in result['distance']:
        for value in row:
            assert f' {value:.1f} ' in output


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['a.pth', 'empty'], 'No images in empty'),
        (['a.pth', 'nowhere'], 'There is no image file or folder nowhere'),
        (['a.pth', 'images', '--batch', '0'], '--batch must be at least 1, got 0'),
        (
            ['a.pth', 'images', '--max-images', '0'],
            'argument --max-images: it must be a whole number of at least 1, not 0.',
        ),
        (['none.pth', 'images'], 'The checkpoint none.pth does not exist'),
    ],
)
def test_errors_of_distances(folder, run, args, message):
    assert f'error: {message}' in run(DISTANCE, *args, code=2)
