import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmmim.datasets.masking import UniformMasking
from mmmim.registry import MODELS
from mmmim.visualization.reconstruction import Reconstructor
from tests.toys import capi_config

REPOSITORY = Path(__file__).parents[2]


def mae_config(normalize=True):
    """A MAE of width 16 for 16 px images in patches of 4."""
    return {
        'type': 'mmmim.MaskedImageModeling',
        'backbone': {
            'type': 'mmmim.ViT',
            'img_size': 16,
            'patch_size': 4,
            'embed_dim': 16,
            'depth': 1,
            'num_heads': 2,
        },
        'branches': {
            'pixels': {
                'target_generator': {'type': 'mmmim.PixelTarget', 'patch_size': 4, 'normalize': normalize},
                'neck': {
                    'type': 'mmmim.SelfAttentionPredictor',
                    'context_dim': 16,
                    'embed_dim': 8,
                    'depth': 1,
                    'num_heads': 2,
                    'out_dim': 48,
                    'grid': (4, 4),
                },
                'head': {'type': 'mmmim.RegressionHead'},
            }
        },
    }


def save(config, path):
    torch.manual_seed(0)
    model = MODELS.build(config)
    torch.save({'state_dict': model.state_dict(), 'mmmim': {'version': 1, 'model': config}}, path)
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 24 + i, 3), dtype=np.uint8)).save(folder / f'{i}.png')
    return folder


def run(monkeypatch, capsys, tool, *args, code=0):
    """Run a tool in this process: each start imports torch for seconds."""
    path = REPOSITORY / 'tools' / 'visualization' / f'{tool}.py'
    spec = importlib.util.spec_from_file_location(tool, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(sys, 'argv', [tool, *map(str, args)])
    if code:
        with pytest.raises(SystemExit) as exit_info:
            module.main()
        assert exit_info.value.code == code
    else:
        module.main()
    output = capsys.readouterr()
    return output.err if code else output.out


@pytest.mark.parametrize('mode', ['image', 'joint', 'both'])
def test_pca(images, tmp_path, monkeypatch, capsys, mode):
    checkpoint, out = save(capi_config(), tmp_path / 'a.pth'), tmp_path / 'out'
    args = (images, checkpoint, '--sizes', 16, 33, 32, '--channels', 4, '--mode', mode, '--out', out, '--device', 'cpu')
    output = run(monkeypatch, capsys, 'vis_pca', *args)
    assert 'does not divide 33: 32 pixels instead' in output
    assert '[3/3]' in output
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert set(first) == {'resolutions.png', 'channels.png'}
    if mode == 'both':
        run(monkeypatch, capsys, 'vis_pca', *args)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_pca_of_random_weights(images, tmp_path, monkeypatch, capsys):
    args = (images, 'capi/digits', '--sizes', 32, '--max-images', 1, '--out', tmp_path / 'out')
    assert 'Wrote' in run(monkeypatch, capsys, 'vis_pca', *args)


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['images/none.png', 'a.pth'], 'error: There is no image file or folder images/none.png'),
        (['images', 'bad.png', 'a.pth', '--sizes', '16'], 'error: cannot read image bad.png'),
        (['images', 'none.pth'], 'error: The checkpoint none.pth does not exist'),
        (['images', 'capi/none'], 'error: capi/none is no checkpoint'),
        (['images', 'a.pth', '--sizes', '16', '--layer', '2'], 'error: There is no block 2 in an encoder of 2'),
        (['images', 'a.pth', '--sizes', '8', '--mode', 'image'], 'error: 4 patches with features of width 16'),
        (
            ['images', 'a.pth', '--sizes', '0'],
            'error: argument --sizes: it must be a whole number of at least 1, not 0.',
        ),
        (['images', 'a.pth', '--device', 'none'], 'error: --device none cannot be used'),
    ],
)
def test_errors_of_pca(images, tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    save(capi_config(), 'a.pth')
    Path('bad.png').write_text('no image')
    assert message in run(monkeypatch, capsys, 'vis_pca', *args, code=2)


@pytest.fixture
def classes(tmp_path):
    """Class folders 'blue', 'green' and 'red' of eight images each, told by their colours; one more is broken."""
    rng = np.random.default_rng(0)
    for channel, name in enumerate(('red', 'green', 'blue')):
        folder = tmp_path / 'classes' / name
        folder.mkdir(parents=True)
        for i in range(8):
            image = rng.integers(0, 60, (20, 24, 3), dtype=np.uint8)
            image[..., channel] += 180
            Image.fromarray(image).save(folder / f'{i}.png')
    (tmp_path / 'classes/green/00.png').write_text('no image')
    return tmp_path / 'classes'


def test_tsne(classes, tmp_path, monkeypatch, capsys):
    checkpoint, out = save(capi_config(), tmp_path / 'a.pth'), tmp_path / 'new' / 'a.png'
    args = (checkpoint, classes, '--perplexity', 4, '--workers', 0, '--device', 'cpu', '--out', out)
    output = run(monkeypatch, capsys, 'vis_tsne', *args)
    assert '1 of 25 images left out' in output
    assert 't-SNE of 24 features' in output
    assert out.read_bytes()[:4] == b'\x89PNG'
    with np.load(out.with_suffix('.npz')) as data:
        first = {name: data[name] for name in data.files}
    assert [*first['classes']] == ['blue', 'green', 'red']
    assert first['coordinates'].shape == (24, 2)
    assert [Path(path).parent.name for path in first['paths']] == [*first['classes'][first['labels']]]
    nearest = np.linalg.norm(first['coordinates'][:, None] - first['coordinates'], axis=-1)
    np.fill_diagonal(nearest, np.inf)
    assert (first['labels'][nearest.argmin(axis=1)] == first['labels']).mean() > 0.9
    picture = out.read_bytes()
    run(monkeypatch, capsys, 'vis_tsne', *args)
    assert out.read_bytes() == picture

    run(monkeypatch, capsys, 'vis_tsne', *args, '--classes', 'red', 'blue', '--max-per-class', 6, '--pool', 'max')
    with np.load(out.with_suffix('.npz')) as data:
        assert [*data['classes']] == ['red', 'blue']
        assert np.bincount(data['labels']).tolist() == [6, 6]


def test_tsne_of_a_folder_without_classes(classes, tmp_path, monkeypatch, capsys):
    out = tmp_path / 'a.png'
    args = (save(capi_config(), tmp_path / 'a.pth'), classes / 'red', '--perplexity', 3, '--workers', 0, '--out', out)
    run(monkeypatch, capsys, 'vis_tsne', *args)
    with np.load(out.with_suffix('.npz')) as data:
        assert [*data['classes']] == ['red']
        assert not data['labels'].any()


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['none'], 'error: There is no folder none'),
        (
            ['classes', '--classes', 'rid'],
            'error: There is no class folder rid with images in classes. Did you mean red',
        ),
        (['classes', '--pool', 'cls'], 'error: The model has no feature cls: choose from pooled, predicted'),
        (['classes', '--pool', 'mean'], "error: There is no feature 'mean'"),
        (['classes', '--perplexity', '24'], 'error: --perplexity 24 does not fit 24 images'),
        (
            ['classes', '--max-per-class', '0'],
            'error: argument --max-per-class: it must be a whole number of at least 1, not 0.',
        ),
        (['classes', '--out', 'a.npz'], 'error: --out a.npz: give a file that ends in .png'),
    ],
)
def test_errors_of_tsne(classes, tmp_path, monkeypatch, capsys, args, message):
    monkeypatch.chdir(tmp_path)
    save(capi_config(), 'a.pth')
    assert message in run(monkeypatch, capsys, 'vis_tsne', 'a.pth', *args, '--workers', 0, code=2)
    assert not Path('work_dirs').exists()


def test_reconstruction(images, tmp_path, monkeypatch, capsys):
    checkpoint, out = save(mae_config(), tmp_path / 'a.pth'), tmp_path / 'out'
    args = (images, checkpoint, '--mask-ratio', 0.5, '--out', out)
    assert '[3/3]' in run(monkeypatch, capsys, 'vis_reconstruction', *args)
    assert (out / 'reconstruction.png').read_bytes()[:4] == b'\x89PNG'
    capi = save(capi_config(), tmp_path / 'capi.pth')
    message = run(monkeypatch, capsys, 'vis_reconstruction', images, capi, '--out', out, code=2)
    assert 'does not predict pixels' in message
    assert '(capi)' in message
    message = run(monkeypatch, capsys, 'vis_reconstruction', images, checkpoint, '--mask-ratio', 1, code=2)
    assert 'argument --mask-ratio: it must be a finite number above 0 and below 1, not 1.0.' in message


@pytest.mark.parametrize('normalize', [True, False])
def test_a_perfect_prediction_is_the_image(tmp_path, normalize):
    """The way back from targets to colours undoes the way there."""
    model = Reconstructor(save(mae_config(normalize), tmp_path / 'a.pth'))
    images = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    mask = UniformMasking(0.75)(2, (4, 4), torch.Generator().manual_seed(0))
    targets = model.branch.target_generator(model.preprocessor.normalize(images), mask, None, model.backbone)
    real = model.branch.neck.forward
    pictures = model(images, mask)
    assert not torch.allclose(pictures['pasted'], pictures['original'], atol=0.1)

    def perfect(context, mask):
        prediction = real(context, mask)
        prediction.patches = targets.patches
        return prediction

    model.branch.neck.forward = perfect
    pictures = model(images, mask)
    expected = images.permute(0, 2, 3, 1) / 255
    torch.testing.assert_close(pictures['original'], expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(pictures['pasted'], expected, rtol=0, atol=1e-5)
    shown = torch.zeros(2, 16).scatter(1, mask.visible, 1.0)
    shown = shown.view(2, 4, 4, 1).repeat_interleave(4, 1).repeat_interleave(4, 2).expand(-1, -1, -1, 3).bool()
    grey = torch.full_like(expected, 0.5)
    torch.testing.assert_close(pictures['masked'], torch.where(shown, expected, grey), rtol=0, atol=1e-6)
    torch.testing.assert_close(pictures['predicted'], torch.where(shown, grey, expected), rtol=0, atol=1e-5)
