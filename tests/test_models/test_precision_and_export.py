"""Encoders in half precision, exported with open sizes, and traced."""

import pytest
import torch
from torch import nn
from torch.export import Dim, export

from mmmim.features import PretrainedBackbone
from mmmim.features.extractor import FeatureExtractor
from mmmim.features.pretrained_backbone import rounded_share
from mmmim.models.layers import AxialRoPE
from tests.registered import ENCODERS, FOREIGN
from tests.toys import capi_config


def images(number=2, size=(16, 16), seed=0):
    return torch.randint(0, 256, (number, 3, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def extractor(config=None):
    torch.manual_seed(0)
    return FeatureExtractor(config or capi_config())


def drawn(kind, **options):
    torch.manual_seed(0)
    return PretrainedBackbone('random', encoder=ENCODERS[kind], **options).eval()


def tensors(value):
    return [value] if torch.is_tensor(value) else value or ()


# ------------------------------------------------------------------------------------------------------- half precision


@pytest.mark.parametrize(
    ('kind', 'dtype'),
    [
        ('sincos, CLS', torch.float16),
        ('learned, proxies', torch.bfloat16),
        ('relative, registers', torch.float16),
        ('capi', torch.float16),
        ('timm', torch.bfloat16),
        ('mmpretrain', torch.float16),
    ],
)
def test_features_have_the_precision_of_the_encoder(kind, dtype):
    model = extractor({'backbone': ENCODERS[kind]} if kind in ENCODERS else None)
    raw = images(size=(32, 32) if kind in FOREIGN else (20, 24))
    full = model(model.preprocess(raw))
    model = model.to(dtype)
    assert model.preprocess(raw).dtype == dtype
    found = model(model.preprocess(raw))
    for name in ('pooled', 'cls', 'predicted', 'patches', 'extra'):
        one, other = getattr(found, name), getattr(full, name)
        assert (one is None) == (other is None)
        for half, exact in zip(tensors(one), tensors(other), strict=True):
            assert half.dtype == dtype
            error = (half.float() - exact).norm() / exact.norm().clamp_min(1e-6)
            assert error < (0.05 if dtype == torch.bfloat16 else 0.01), name
    assert found.pool('top3').dtype == dtype
    # Images in fp32 are taken as they were before the model was cast.
    assert model(model.preprocess(raw).float()).pooled.dtype == dtype


def test_frequencies_and_means_are_not_rounded():
    model = extractor()
    rope = next(module for module in model.modules() if isinstance(module, AxialRoPE))
    freqs, mean = rope.freqs.clone(), model.preprocessor.mean.clone()
    for cast in (model.bfloat16, model.half, model.float, model.bfloat16):
        cast()
        assert rope.freqs.dtype == model.preprocessor.mean.dtype == torch.float32
        assert torch.equal(rope.freqs, freqs)
        assert torch.equal(model.preprocessor.mean, mean)
    assert model.double().preprocessor.mean.dtype == torch.float64
    assert 'like' not in ' '.join(model.state_dict())


# --------------------------------------------------------------------------------------------------------------- export


class Tuple(nn.Module):
    """All features of an extractor, as exporters want them."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        found = self.model(x)
        values = (found.patches[-1], found.extra[-1], found.pooled, found.cls, found.predicted)
        return [value for value in values if value is not None]


@pytest.mark.parametrize(
    'kind',
    [
        'capi',
        'learned, proxies',
        'relative, mask tokens',
        pytest.param('sincos, CLS', marks=pytest.mark.slow),
        pytest.param('mask tokens', marks=pytest.mark.slow),
    ],
)
def test_sizes_can_stay_open_in_an_export(kind):
    """Of batches and images: no position of the exported size is kept, training size or not, smaller or larger."""
    config = {'backbone': ENCODERS[kind]} if kind in ENCODERS else capi_config()
    config['backbone'] = {**config['backbone'], 'depth': 1}
    model = Tuple(extractor(config))
    number, height, width = (Dim(name, min=1, max=32) for name in ('batch', 'height', 'width'))
    exported = export(
        model, (torch.randn(2, 3, 20, 24),), dynamic_shapes={'x': {0: number, 2: 4 * height, 3: 4 * width}}
    ).module()
    assert len(model(torch.zeros(1, 3, 16, 16))) == 3 + (model.model.backbone.num_cls_tokens > 0) + (kind == 'capi')
    for size in ((16, 16), (8, 40)):
        x = torch.randn(3, 3, *size)
        for one, other in zip(exported(x), model(x), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(('kind', 'size'), [('sincos, CLS', (16, 16)), ('rotary, registers', (18, 21))])
@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning', 'ignore:.*torch.jit.trace:FutureWarning')
def test_a_trace_gives_the_maps_or_an_error(kind, size):
    model = drawn(kind, stride=2)
    traced = torch.jit.trace(model, torch.randn(2, 3, *size), check_trace=False)
    right = 0
    for other in (size, (17, 15), (17, 19), (32, 32)):
        x = torch.randn(3, 3, *other)
        try:
            found = traced(x)
        except RuntimeError:
            continue
        right += 1
        torch.testing.assert_close(found[0], model(x)[0])
    assert right >= 2


def test_rounding_in_whole_numbers():
    for patch in (1, 3, 4, 7, 14, 16):
        for side in range(12 * patch):
            assert rounded_share(side, patch) == round(side / patch)
