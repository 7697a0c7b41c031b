import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.runner.checkpoint import load_state_dict as load_as_mmengine

from mmmim.features import PretrainedBackbone
from mmmim.models.layers import block_index
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.runs import assert_same
from tests.toys import DIM, capi_config

ENCODER = {'type': 'mmmim.ViT', 'img_size': 16, 'patch_size': 4, 'embed_dim': DIM, 'depth': 3, 'num_heads': 2}


def backbone(**options):
    return PretrainedBackbone(checkpoint='random', encoder=ENCODER, **options)


@pytest.fixture
def checkpoint(tmp_path):
    torch.manual_seed(0)
    config = capi_config()
    path = tmp_path / 'iter_10.pth'
    torch.save({'state_dict': MODELS.build(config).state_dict(), 'mmmim': {'version': 1, 'model': config}}, path)
    return path


def test_shares_of_the_depth():
    for depth, blocks in ((12, [3, 5, 7, 11]), (24, [7, 11, 15, 23]), (4, [0, 1, 2, 3])):
        assert [block_index(share, depth) for share in (1 / 3, 1 / 2, 2 / 3, 1.0)] == blocks
        assert [block_index(i, depth) for i in (1, -1)] == [1, depth - 1]
    for wrong in (0.0, 1.5, -0.5):
        with pytest.raises(InputError, match='no share of the depth'):
            block_index(wrong, 12)


def test_maps_with_and_without_the_final_norm():
    images = torch.randn(2, 3, 16, 24)
    model = backbone(out_indices=(0, 0.6, -1))
    assert model.out_indices == (0, 1, 2)
    context = model.backbone(images, layers=(0, 1, 2))
    for final_norm in (True, False):
        model.final_norm = final_norm
        for tokens, feature_map in zip(context.hidden, model(images), strict=True):
            expected = (model.backbone.norm(tokens) if final_norm else tokens)[:, 1:]
            torch.testing.assert_close(feature_map.flatten(2).transpose(1, 2), expected)
            assert feature_map.shape == (2, DIM, 4, 6)


def test_several_features_of_one_pass():
    """Every name at every block, the blocks of the first name first, each as it is alone; one of all blocks."""
    names, images = ['cls', 'pooled', 'cls+pooled', 'patches', 'featmap'], torch.randn(2, 3, 16, 24)
    model = backbone(out_type=names, out_indices=(0, 2)).eval()
    calls = []
    model.backbone.register_forward_hook(lambda *args: calls.append(1))
    found = model(images)
    assert (len(found), calls) == (10, [1])
    assert model.feature_dims == (DIM, DIM, 2 * DIM, DIM, DIM)
    for i, name in enumerate(names):
        alone = backbone(out_type=name, out_indices=(0, 2)).eval()
        alone.load_state_dict(model.state_dict())
        for one, other in zip(found[2 * i : 2 * i + 2], alone(images), strict=True):
            torch.testing.assert_close(one, other)
    with pytest.raises(InputError, match='names no feature'):
        backbone(out_type=[])
    with pytest.raises(InputError, match='stride is of maps'):
        backbone(out_type=['featmap', 'cls'], stride=4)
    with pytest.raises(InputError, match="'cls@1' is the same for every block"):
        backbone(out_type=['cls', 'cls@1'], out_indices=(0, 1))


def test_sizes_that_the_patch_does_not_divide_and_a_stride():
    model = backbone().eval()
    images = torch.randn(1, 3, 17, 23)
    (plain,) = model(images)
    (expected,) = model(F.interpolate(images, (16, 24), mode='bilinear', align_corners=False))
    torch.testing.assert_close(plain, expected)
    assert model(torch.randn(1, 3, 1, 18))[0].shape[-2:] == (1, 4)  # 18 is as far from 16 as from 20
    model.stride = 8
    (resized,) = model(images)
    torch.testing.assert_close(resized, F.interpolate(plain, (3, 3), mode='bilinear', align_corners=False))
    model.stride = 4
    (same,) = model(images[..., :16, :16])
    model.stride = None
    assert torch.equal(same, model(images[..., :16, :16])[0])


def test_drop_path_rises_to_the_rate():
    rates = [block.drop_path for block in backbone(drop_path_rate=0.2).backbone.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize('final_norm', [True, False])
def test_only_what_the_maps_depend_on_is_trained(final_norm):
    encoder = {**ENCODER, 'projector_dims': [8], 'fused': True}
    model = PretrainedBackbone('random', encoder=encoder, out_indices=(0, 1), final_norm=final_norm)
    model.backbone.blocks[2].register_forward_hook(lambda *_: pytest.fail('a block after the last map is computed'))
    sum(each.square().mean() for each in model(torch.randn(1, 3, 16, 16))).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    trained = {name.split('.')[1] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {'patch_embed', 'extra_tokens', 'blocks'} | ({'norm'} if final_norm else set())
    assert not any(p.requires_grad for p in model.backbone.blocks[2].parameters())


def test_an_encoder_of_the_config_takes_the_weights_of_the_checkpoint(checkpoint):
    encoder = {**capi_config()['backbone'], 'drop_path_rate': 0.5}
    model = PretrainedBackbone(checkpoint, encoder=encoder)
    assert_same(model.state_dict(), PretrainedBackbone(checkpoint).state_dict())
    assert model.backbone.blocks[0].drop_path == 0.5
    with pytest.raises(InputError, match=r'blocks\.2\.'):
        PretrainedBackbone(checkpoint, encoder={**encoder, 'depth': 3})


@pytest.mark.parametrize(
    ('args', 'options', 'message'),
    [
        ([], {}, '--pretrained'),
        (['pretrained:checkpoint'], {'encoder': 'pretrained:encoder'}, '--pretrained'),
        (['random'], {}, 'needs the config of an encoder'),
        (['random'], {'encoder': ENCODER, 'init_cfg': {'type': 'Pretrained'}}, 'takes no init_cfg'),
        (['random'], {'encoder': {'type': 'mmmim.Nothing'}, 'drop_path_rate': 0.1}, r"type='mmmim\.Nothing'"),
    ],
)
def test_what_has_no_weights_is_refused(args, options, message):
    with pytest.raises(InputError, match=message):
        PretrainedBackbone(*args, **options)


class Segmentor(BaseModel):
    def __init__(self, encoder):
        super().__init__()
        self.backbone, self.head = encoder, torch.nn.Linear(DIM, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return self.head(self.backbone(inputs)[0].mean(dim=(2, 3)))


def test_mmengine_does_not_initialise_it_anew(checkpoint):
    model = Segmentor(PretrainedBackbone(checkpoint))
    before = copy.deepcopy(model.backbone.state_dict())
    model.init_weights()
    assert_same(model.backbone.state_dict(), before)


def test_weights_come_whole_or_not_at_all():
    """mmengine's runner loads what fits and logs the rest."""
    images = torch.randn(1, 3, 16, 16)
    trained = Segmentor(backbone()).eval()
    state = trained.state_dict()
    model = Segmentor(PretrainedBackbone('load_from', encoder=ENCODER)).eval()
    head = {key: value for key, value in state.items() if key.startswith('head.')}
    for broken, message in (
        ({k: v for k, v in state.items() if '.blocks.1.norm1' not in k}, r'2 missing \(backbone\.blocks\.1\.norm1\.w'),
        ({**state, 'backbone.backbone.cls': torch.ones(1)}, r'1 unexpected \(backbone\.cls\)'),
        ({**state, 'backbone.backbone.norm.weight': torch.ones(5)}, r'of another shape \(backbone\.norm\.weight'),
    ):
        with pytest.raises(InputError, match=message):
            load_as_mmengine(model, broken)
    load_as_mmengine(model, head)
    with pytest.raises(InputError, match='has no weights yet'):
        model(images)
    load_as_mmengine(model, state)
    assert torch.equal(model(images), trained(images))
