"""Tokenizers, and tokens as targets."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from mmmim.models import DalleTokenizer, KMeansTokenizer, TokenizerTarget, VQKDTokenizer
from mmmim.models.functional import nearest
from mmmim.models.tokenizers import fit_codebook, standardised_patches
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import load_tool
from tests.shrink import write_images
from tests.toys import random_mask

KMEANS = {'type': 'mmmim.KMeansTokenizer', 'num_tokens': 20, 'patch_size': 4, 'untrained': True}
MEAN, STD = torch.tensor([123.675, 116.28, 103.53]).view(-1, 1, 1), torch.tensor([58.395, 57.12, 57.375]).view(-1, 1, 1)
VQKD = {
    'num_tokens': 30,
    'arch': {'embed_dims': 16, 'num_layers': 1, 'num_heads': 2, 'feedforward_channels': 32},
    'grid': (2, 2),
}


def pixels(images=3, size=(16, 16), seed=0):
    return torch.rand(images, 3, *size, generator=torch.Generator().manual_seed(seed))


# -------------------------------------------------------------------------------------------------------- k-means


def test_nearest():
    torch.manual_seed(0)
    points, centres = torch.randn(4, 9, 5), torch.randn(17, 5)
    assert torch.equal(nearest(points, centres), torch.cdist(points.double(), centres.double()).argmin(-1))


def test_a_codebook_finds_patterns():
    """Noisy copies of few patterns: their tokens are one to one with the patterns."""
    rng = torch.Generator().manual_seed(0)
    patterns = torch.rand(6, 3, 4, 4, generator=rng)
    which = torch.randint(6, (30, 16), generator=rng)
    tiles = patterns[which] + 0.01 * torch.rand(30, 16, 3, 4, 4, generator=rng)
    pictures = tiles.unflatten(1, (4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
    codebook = fit_codebook(standardised_patches(pictures, 4).flatten(0, 1), 6, seed=0)
    tokenizer = KMeansTokenizer(num_tokens=6, patch_size=4, untrained=True)
    tokenizer.centres.copy_(codebook)
    tokens = tokenizer(pictures, (4, 4))
    patches = standardised_patches(pictures, 4)
    torch.testing.assert_close(standardised_patches(0.2 + 0.5 * pictures, 4), patches, atol=1e-3, rtol=1e-3)
    assert len({(int(a), int(b)) for a, b in zip(tokens.flatten(), which.flatten(), strict=True)}) == 6
    assert torch.equal(fit_codebook(standardised_patches(pictures, 4).flatten(0, 1), 6, seed=0), codebook)
    with pytest.raises(InputError, match='5 patches are too few for 6 tokens'):
        fit_codebook(torch.randn(5, 48), 6, seed=0)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({}, r'codebook is not set: python tools/misc/fit_patch_codebook\.py CONFIG FILE --codes 20 writes'),
        ({'codebook': 'nothing.pth'}, r'nothing\.pth does not exist.*fit_patch_codebook'),
        ({'codebook': 'book.pth', 'num_tokens': 21}, '20 patterns of 48 values, .* ask for 21 of 48'),
        ({'codebook': 'other.pth'}, 'is no codebook'),
    ],
)
def test_codebooks_that_cannot_be_used(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({'centres': torch.randn(20, 48), 'patch_size': 4}, 'book.pth')
    torch.save({'state_dict': {}}, 'other.pth')
    assert KMeansTokenizer('book.pth', 20, 4).centres.shape == (20, 48)
    with pytest.raises(InputError, match=message):
        KMeansTokenizer(**{'num_tokens': 20, 'patch_size': 4, **options})


def tool(monkeypatch, *args):
    monkeypatch.setattr('sys.argv', ['fit_patch_codebook.py', *map(str, args)])
    load_tool('misc/fit_patch_codebook').main()


def test_the_tool_fits_a_folder(tmp_path, monkeypatch, capsys):
    write_images(tmp_path / 'images', number=3)
    out = tmp_path / 'book.pth'
    options = ['--codes', 5, '--patch-size', 8, '--image-size', 32, '--patches', 40]
    tool(monkeypatch, tmp_path / 'images', out, *options)
    assert '5 patterns of 8 x 8 pixels, from 48 patches of 3 images' in capsys.readouterr().out
    first = KMeansTokenizer(str(out), 5, 8).centres
    tool(monkeypatch, tmp_path / 'images', out, *options, '--seed', 1)
    assert not torch.equal(KMeansTokenizer(str(out), 5, 8).centres, first)


@pytest.mark.parametrize('bgr', [True, False])
def test_the_tool_sees_what_a_training_sees(bgr, tmp_path, monkeypatch):
    """Colours have the order that the tokenizer gets."""
    folder = tmp_path / 'images'
    folder.mkdir()
    rng = np.random.default_rng(0)
    reddish = rng.integers(0, 100, (16, 16, 3), dtype=np.uint8) + np.array([150, 0, 0], dtype=np.uint8)
    Image.fromarray(reddish).save(folder / 'a.png')
    (tmp_path / 'config.py').write_text(f"""
model = dict(backbone=dict(patch_size=4), data_preprocessor=dict(bgr_to_rgb={bgr}))
pipeline = [dict(type='mmmim.LoadImage'), dict(type='mmpretrain.PackInputs')]
train_dataloader = dict(dataset=dict(type='mmmim.ImageFolder', data_root={str(folder)!r}, pipeline=pipeline))
""")
    tool(monkeypatch, tmp_path / 'config.py', tmp_path / 'book.pth', '--codes', 2)
    centres = KMeansTokenizer(str(tmp_path / 'book.pth'), 2, 4).centres.view(2, 3, 16).mean(-1)
    assert centres.argmax(dim=1).tolist() == ([0, 0] if bgr else [2, 2])


def test_what_the_tool_refuses(tmp_path, monkeypatch, capsys):
    (tmp_path / 'config.py').write_text('a = 1\n')
    for args, message in (
        ((tmp_path / 'config.py',), 'has no model'),
        ((tmp_path / 'config.py', '--codes', 0), 'argument --codes: it must be a whole number of at least 1, not 0'),
    ):
        with pytest.raises(SystemExit) as end:
            tool(monkeypatch, args[0], tmp_path / 'out.pth', *args[1:])
        assert end.value.code == 2
        assert message in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------- learned tokenizers


def test_dalle_is_mmpretrains(tmp_path):
    torch.manual_seed(0)
    from mmpretrain.models.selfsup.cae import DALLEEncoder

    theirs = DALLEEncoder(n_hid=8, vocab_size=24)
    torch.save({'state_dict': theirs.state_dict()}, tmp_path / 'dalle_encoder.pth')
    ours = DalleTokenizer(str(tmp_path / 'dalle_encoder.pth'), num_tokens=24, hidden_dim=8)
    small = pixels(size=(24, 32))
    expected = theirs((small * 255 + 31.875) / 318.75).argmax(1).flatten(1)
    assert torch.equal(ours(small, (3, 4)), expected)
    assert len(expected.unique()) > 2
    # Patches of 16 are seen at half of the resolution; edges make the filter go beyond the range.
    large = (pixels(size=(48, 64)) > 0.5).float()
    halved = F.interpolate(large, size=(24, 32), mode='bicubic', antialias=True)
    assert halved.aminmax() != halved.clamp(0, 1).aminmax()
    expected = theirs(0.8 * halved.clamp(0, 1) + 0.1).argmax(1).flatten(1)
    assert torch.equal(ours(large, (3, 4)), expected)


def test_vqkd_is_mmpretrains(tmp_path):
    torch.manual_seed(0)
    theirs = VQKDTokenizer(**VQKD, untrained=True).encoder
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        theirs.quantize.embedding.weight.data = F.normalize(torch.randn(30, 32), dim=-1)
    torch.save(theirs.state_dict(), tmp_path / 'vqkd_encoder.pth')
    ours = VQKDTokenizer(str(tmp_path / 'vqkd_encoder.pth'), **VQKD)
    pictures = pixels(6, (32, 32))
    theirs.train()  # its statistics are updated in eval mode only
    expected = theirs((pictures * 255 - 127.5) / 127.5)
    assert torch.equal(ours(pictures, (2, 2)), expected)
    assert len(expected.unique()) > 3
    before = {key: value.clone() for key, value in ours.state_dict().items()}
    assert ours.eval()(pixels(2, (16, 16)), (2, 2)).shape == (2, 4)
    assert all(torch.equal(value, before[key]) for key, value in ours.state_dict().items())
    assert ours(pixels(2, (48, 32)), (3, 2)).shape == (2, 6)


@pytest.mark.parametrize(
    ('tokenizer', 'file', 'lost'),
    [
        ({'type': 'mmmim.DalleTokenizer', 'num_tokens': 24, 'hidden_dim': 8}, 'dalle_encoder.pth', 'blocks.input.w'),
        ({'type': 'mmmim.VQKDTokenizer', **VQKD}, 'vqkd_encoder.pth', 'encode_task_layer.0.bias'),
    ],
)
def test_weights_that_cannot_be_used(tokenizer, file, lost, tmp_path):
    """There are never random targets unless they were asked for."""

    def refused(message, **options):
        with pytest.raises(InputError, match=message):
            MODELS.build({'type': 'mmmim.TokenizerTarget', 'tokenizer': {**tokenizer, **options}})

    refused(rf"weights is not set: it needs {file}, .* weights='checkpoints/{file}'")
    refused(rf'which is {file} of OpenMMLab: .*none\.pth does not exist', weights=str(tmp_path / 'none.pth'))
    state = MODELS.build({**tokenizer, 'untrained': True}).encoder.state_dict()
    state.pop(lost)
    torch.save(state, tmp_path / file)
    refused(rf'1 missing \({lost}\)', weights=str(tmp_path / file))


def test_files_may_hold_more_and_lack_statistics(tmp_path):
    torch.manual_seed(0)
    state = VQKDTokenizer(**VQKD, untrained=True).encoder.state_dict()
    state = {f'module.{key}': torch.randn_like(v) if v.is_floating_point() else v for key, v in state.items()}
    statistics = [key for key in state if key.endswith('cluster_size')]
    assert statistics
    for key in statistics:
        del state[key]
    state |= {'module.decoder.weight': torch.ones(3)}
    torch.save({'state_dict': state}, tmp_path / 'file.pth')
    loaded = VQKDTokenizer(str(tmp_path / 'file.pth'), **VQKD).encoder.state_dict()
    assert len(loaded) == len(state) - 1 + len(statistics)
    for key, value in loaded.items():
        assert f'module.{key}' in statistics or torch.equal(value, state[f'module.{key}'])


# ------------------------------------------------------------------------------------------------ tokens as targets


def test_tokenizers_stay_as_they_are():
    """Whatever a model does with its parts: initialise them, train them."""
    generator = TokenizerTarget({'type': 'mmmim.VQKDTokenizer', **VQKD, 'untrained': True}, patch_size=4)
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    generator.init_weights()
    generator.train()
    assert not any(module.training for module in generator.modules())
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    assert all(torch.equal(value, before[key]) for key, value in generator.state_dict().items())


def test_health_of_tokens():
    """Tokens that tell the position; few and many of them."""
    from mmmim.engine.hooks.health_hook import _measure_targets

    generator = TokenizerTarget(KMEANS, patch_size=4)
    mask = random_mask(64)
    tokens = {
        'position': mask.flat_predict(),
        'noise': torch.randint(16, (64, 3), generator=torch.Generator().manual_seed(0)),
        'one': torch.full((64, 3), 7),
    }
    measures = {name: _measure_targets('beit', value, mask, generator) for name, value in tokens.items()}
    assert all(set(m) == {'beit_positional_share', 'beit_prototypes_in_use'} for m in measures.values())
    share = {name: m['beit_positional_share'].item() for name, m in measures.items()}
    used = {name: m['beit_prototypes_in_use'].item() for name, m in measures.items()}
    assert share['position'] == pytest.approx(1)
    assert share['noise'] < 0.1
    assert used['one'] == pytest.approx(1)
    assert 14 < used['noise'] <= 16


def test_tokenizers_see_pixels_from_0_to_1(monkeypatch):
    """255 is 1 and 0 is 0: another divisor moves every colour that DALL-E sees."""
    generator, seen = TokenizerTarget(KMEANS, patch_size=4), []
    monkeypatch.setattr(
        generator.tokenizer, 'forward', lambda pixels, grid: seen.append(pixels) or torch.zeros(len(pixels), 4)
    )
    raw = torch.tensor([0.0, 51.0, 255.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    assert generator.tokens((raw - MEAN) / STD).shape == (1, 4)
    expected = torch.tensor([0.0, 0.2, 1.0]).view(1, 3, 1, 1).expand(1, 3, 8, 8)
    torch.testing.assert_close(seen[0], expected, rtol=1e-5, atol=1e-6)
