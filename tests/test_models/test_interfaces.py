"""What is no part of its kind, lacks something or contradicts its neighbours is refused when a model is built."""

import pytest
import torch
from torch import nn

from mmmim.models import Encoder, Head, Neck, PoolingNeck, TargetGenerator
from mmmim.models.interfaces import check_part, check_sizes
from mmmim.registry import MODELS
from mmmim.structures import Prediction
from mmmim.utils import InputError
from tests.toys import DIM, capi_config


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


def with_part(part, kind):
    config = capi_config()
    if part == 'backbone':
        config['backbone'] = {'type': kind}
    else:
        config['branches']['capi'][part] = {'type': kind}
    return config


@pytest.mark.parametrize(
    ('part', 'kind', 'words'),
    [
        (
            'neck',
            'mmmim.UnrelatedNeck',
            r'branches\.capi\.neck is a UnrelatedNeck, .* derive it from mmmim\.models\.Neck',
        ),
        ('neck', 'mmmim.SilentNeck', r'branches\.capi\.neck is a SilentNeck\. It lacks forward\.'),
        ('neck', 'mmmim.CrossEntropyHead', r'neck is a CrossEntropyHead, which is no Neck: .* It lacks forward\.'),
        ('head', 'mmmim.SilentHead', r'branches\.capi\.head is a SilentHead\. It lacks loss\.'),
        (
            'target_generator',
            'mmmim.PickPredicted',
            r'target_generator is a PickPredicted, which is no TargetGenerator',
        ),
        (
            'backbone',
            'mmmim.SizelessEncoder',
            r'backbone is a SizelessEncoder\. It lacks embed_dim, depth, patch_size, grid',
        ),
    ],
)
def test_parts_of_another_kind_and_incomplete_ones(part, kind, words):
    with pytest.raises(InputError, match=words):
        MODELS.build(with_part(part, kind))


def test_a_neck_that_pools_needs_its_method():
    class Half(PoolingNeck):
        def forward(self, context, mask):
            return Prediction(context.visible)

    with pytest.raises(InputError, match='It lacks global_feature'):
        check_part(Half(), PoolingNeck, 'a neck')
    assert check_part(neck := Half(), Neck, 'a neck') is neck


def test_sizes():
    """A part is compared with the last one that has the quantity; one that does not say takes any."""
    target, neck, encoder = {'width': ('in_dim', 8)}, {'width': ('context_dim', None)}, {'width': ('embed_dim', 8)}
    check_sizes({'t': target, 'n': neck, 'e': encoder})
    check_sizes({'t': target, 'n': {'grid': ('grid', (2, 2))}})
    with pytest.raises(InputError, match=r't\.in_dim is 8 and e\.embed_dim is 9: they must be equal'):
        check_sizes({'t': target, 'n': neck, 'e': {'width': ('embed_dim', 9)}})


def test_defaults_say_nothing():
    generator, encoder = TargetGenerator(), Encoder()
    assert generator.num_tokens is None
    assert not any((generator.differentiable, generator.distribution, generator.balances))
    assert generator.describe_batch(4) == ''
    assert list(encoder.unread(1, True)) == []
    state = torch.randn(1, 2, DIM)
    assert encoder.normed(state) is state
    with pytest.raises(InputError, match='Encoder does not tell the layers of its parameters'):
        encoder.get_layer_depth('x')
