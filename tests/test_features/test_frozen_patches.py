"""What is read of the patches of one image at a time: sizes, tokens, queries, keys, values and attention."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from mmmim.features.attention_maps import attention_maps
from mmmim.features.extraction import extract_features
from mmmim.models.backbones.vit import ViT
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.segmentation import tiny_encoder

MEAN, STD = [100.0, 110.0, 120.0], [50.0, 60.0, 70.0]


def frozen(encoder=None, **options):
    torch.manual_seed(0)
    backbone = {'checkpoint': 'random', 'encoder': encoder or tiny_encoder(8, 32, depth=3)}
    return MODELS.build(
        {
            'type': 'mmmim.FrozenPatches',
            'backbone': {'type': 'mmmim.PretrainedBackbone', 'frozen': True, **backbone, **options.pop('backbone', {})},
            'data_preprocessor': {
                'type': 'mmmim.ImageListPreprocessor',
                'mean': MEAN,
                'std': STD,
                'bgr_to_rgb': True,
            },
            **options,
        }
    ).eval()


@pytest.fixture
def image():
    return torch.randint(0, 256, (3, 30, 41), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def normalised(image):
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return ((image.flip(0).float() - mean) / std)[None]


def test_images_are_padded_behind_the_normalisation(image):
    model = frozen()
    read = model.read(image, 'patches')
    assert (read.grid, read.cell, read.size) == ((4, 6), (8, 8), (30, 41))
    padded = F.pad(normalised(image), (0, 7, 0, 2))
    expected = extract_features(model.backbone.backbone, padded).patches[0][0]
    np.testing.assert_allclose(read.values, expected, rtol=1e-5, atol=1e-5)
    whole = model.read(image[:, :24, :40], 'patches')
    assert (whole.grid, whole.cell) == ((3, 5), (8, 8))


def test_or_resized_to_whole_patches(image):
    model = frozen(fit='round')
    read = model.read(image, 'patches')
    assert (read.grid, read.cell) == ((4, 5), (30 / 4, 41 / 5))
    resized = F.interpolate(normalised(image), (32, 40), mode='bilinear')
    expected = extract_features(model.backbone.backbone, resized).patches[0][0]
    np.testing.assert_allclose(read.values, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('resize', 'fit', 'grid', 'cell'),
    [
        (15, 'pad', (2, 3), (16, 8 * 41 / 20)),  # 15 x 20 (20.5 to even) pixels
        (60, 'pad', (8, 11), (4, 4)),  # 60 x 82 pixels
        (60, 'round', (8, 10), (30 / 8, 4.1)),
        ((16, 64), 'pad', (2, 8), (15, 41 / 8)),
    ],
)
def test_the_size_that_the_encoder_sees(image, resize, fit, grid, cell):
    read = frozen(resize=resize, fit=fit).read(image, 'patches')
    assert (read.grid, read.cell, read.size) == (grid, pytest.approx(cell), (30, 41))
    assert len(read.values) == grid[0] * grid[1]


@pytest.mark.parametrize('positions', ['sincos', 'rope'])
def test_projections_of_a_block(image, positions):
    """Before rotary positions turn them, heads side by side, without extra tokens."""
    extra = {'num_cls_tokens': 0, 'num_registers': 4} if positions == 'rope' else {}
    encoder = {**tiny_encoder(8, 32, depth=3), 'positions': positions, **extra}
    model = frozen(encoder, backbone={'out_indices': (1,)})
    backbone: ViT = model.backbone.backbone
    seen = []
    backbone.blocks[1].attn.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    for name in ('queries', 'keys', 'values'):
        read = model.read(image, name)
        layer = getattr(backbone.blocks[1].attn, f'{name[0]}_proj')
        expected = layer(seen[-1])[0, backbone.num_extra_tokens :]
        np.testing.assert_allclose(read.values, expected.detach(), rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="There is no reading 'cls' of patches: use one of patches, queries, keys"):
        model.read(image, 'cls')


def test_attention_of_cls_and_of_all_patches(image):
    encoder = {**tiny_encoder(8, 32, depth=3), 'num_cls_tokens': 2, 'num_registers': 1}
    model = frozen(encoder)
    (maps,) = attention_maps(model.backbone.backbone, F.pad(normalised(image), (0, 7, 0, 2)), [-1])
    read = model.read(image, 'cls_attention')
    assert read.values.shape == (24, 2)
    np.testing.assert_allclose(read.values.T, maps[0, :, :2, 3:].mean(dim=1), rtol=1e-5, atol=1e-7)
    read = model.read(image, 'mean_attention')
    np.testing.assert_allclose(read.values.T, maps[0, :, 3:, 3:].mean(dim=1), rtol=1e-5, atol=1e-7)
    model.check('cls_attention')
    without = frozen({**tiny_encoder(8, 32), 'num_cls_tokens': 0})
    without.check('mean_attention')
    with pytest.raises(InputError, match=r"has no CLS token .* test_cfg\.probe\.attention='mean'"):
        without.check('cls_attention')


def test_one_block():
    with pytest.raises(InputError, match=r'model\.backbone\.out_indices=\[0, 2\]: mmmim\.FrozenPatches reads one'):
        frozen(backbone={'out_indices': (0, -1)})
    with pytest.raises(InputError, match='has no head'):
        frozen()(torch.zeros(1, 3, 32, 32), mode='loss')
