"""What is no part of its kind, lacks something or contradicts its neighbours is refused when a model is built."""

import pytest
from torch import nn

from mmmim.models import Encoder, Head, Neck, PoolingNeck
from mmmim.models.interfaces import check_part, check_sizes
from mmmim.registry import MODELS
from mmmim.structures import Prediction
from mmmim.utils import InputError
from tests.toys import capi_config


@MODELS.register_module()
class UnrelatedNeck(nn.Module):
    def forward(self, context, mask):
        return Prediction(context.visible)


@MODELS.register_module()
class SilentNeck(Neck):
    pass


@MODELS.register_module()
class SilentHead(Head):
    pass


@MODELS.register_module()
class SizelessEncoder(Encoder):
    def forward(self, images, mask=None, layers=(), depth=None):
        raise NotImplementedError


@pytest.mark.parametrize(
    ('part', 'kind', 'words'),
    [
        ('neck', 'UnrelatedNeck', r'branches\.capi\.neck is a UnrelatedNeck, .* derive it from mmmim\.models\.Neck'),
        ('neck', 'SilentNeck', r'branches\.capi\.neck is a SilentNeck\. It lacks forward\.'),
        ('neck', 'CrossEntropyHead', r'neck is a CrossEntropyHead, which is no Neck: .* It lacks forward\.'),
        ('head', 'SilentHead', r'branches\.capi\.head is a SilentHead\. It lacks loss\.'),
        ('target_generator', 'PickPredicted', r'is a PickPredicted, which is no TargetGenerator'),
        ('backbone', 'SizelessEncoder', r'SizelessEncoder\. It lacks embed_dim, depth, patch_size, grid'),
    ],
)
def test_parts_of_another_kind_and_incomplete_ones(part, kind, words):
    config = capi_config()
    (config if part == 'backbone' else config['branches']['capi'])[part] = {'type': f'mmmim.{kind}'}
    with pytest.raises(InputError, match=words):
        MODELS.build(config)


def test_a_neck_that_pools_needs_its_method():
    class Half(PoolingNeck):
        def forward(self, context, mask):
            return Prediction(context.visible)

    with pytest.raises(InputError, match='It lacks out_dim, global_feature'):
        check_part(Half(), PoolingNeck, 'a neck')
    assert check_part(neck := Half(), Neck, 'a neck') is neck


def test_sizes():
    """A part is compared with the last one that has the quantity; one that does not say takes any."""
    target, neck, encoder = {'width': ('in_dim', 8)}, {'width': ('context_dim', None)}, {'width': ('embed_dim', 8)}
    check_sizes({'t': target, 'n': neck, 'e': encoder})
    check_sizes({'t': target, 'n': {'grid': ('grid', (2, 2))}})
    with pytest.raises(InputError, match=r't\.in_dim is 8 and e\.embed_dim is 9: they must be equal'):
        check_sizes({'t': target, 'n': neck, 'e': {'width': ('embed_dim', 9)}})


def test_an_encoder_that_tells_nothing_of_its_layers():
    with pytest.raises(InputError, match='Encoder does not tell the layers of its parameters'):
        Encoder().get_layer_depth('x')
