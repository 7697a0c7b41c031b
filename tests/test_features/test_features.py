import pytest
import torch
import torch.nn.functional as F

import mmmim
from mmmim.features import PretrainedBackbone
from mmmim.features.extraction import extract_features
from mmmim.registry import MODELS
from mmmim.structures import PatchMask
from mmmim.utils import InputError
from tests.runs import assert_same
from tests.toys import DIM, GRID, batch, capi_config


@pytest.fixture
def checkpoint(tmp_path):
    """A training checkpoint whose teacher differs from its student."""
    torch.manual_seed(0)
    config = capi_config()
    model = MODELS.build(config)
    with torch.no_grad():
        for parameter in model.teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    path = tmp_path / 'iter_10.pth'
    torch.save({'state_dict': model.state_dict(), 'meta': {}, 'mmmim': {'version': 1, 'model': config}}, path)
    return path, model.eval()


def test_student_and_teacher_features_of_any_layer_and_resolution(checkpoint):
    path, model = checkpoint
    for weights, source in (('student', model), ('ema', model.teacher)):
        images = torch.randn(2, 3, 24, 40)
        features = mmmim.get_model(path, weights=weights)(images, layers=(0, -1, 1))
        context = source.backbone(images, layers=(0,))
        assert features.grid == (6, 10)
        torch.testing.assert_close(features.patches[1:], (context.visible,) * 2)
        torch.testing.assert_close(features.extra[1], context.extra)
        first = F.rms_norm(context.hidden[0], (DIM,), eps=1e-5)
        torch.testing.assert_close(features.patches[0], first[:, 4:])
        torch.testing.assert_close(features.extra[0], first[:, :4])
        torch.testing.assert_close(features.pooled, context.visible.mean(1))
        neck = source.get_submodule('branches.capi.neck')
        torch.testing.assert_close(features.predicted, neck.global_feature(context))
        assert features.maps()[0].shape == (2, DIM, 6, 10)
        torch.testing.assert_close(features.maps()[0][1, :, 2, 3], features.patches[0][1, 23])


def test_pooling(checkpoint):
    path, model = checkpoint
    images = torch.randn(3, 3, 16, 24)
    context = model.backbone(images, layers=(0, 1))
    features = mmmim.get_model(path, weights='student')(images, layers=(0, 1))
    tokens = F.rms_norm(context.hidden[1], (DIM,), eps=1e-5)[:, 4:]
    ordered = tokens.sort(dim=1, descending=True).values
    expected = {
        'pooled': tokens.mean(1),
        'pooled_raw': context.hidden[1][:, 4:].mean(1),
        'max': tokens.amax(1),
        'top10': ordered[:, :10].mean(1),
        'top100': tokens.mean(1),
        'all': tokens.flatten(1),
        'predicted': features.predicted,
    }
    for name, value in expected.items():
        torch.testing.assert_close(features.pool(name), value, msg=lambda m, name=name: f'{name}: {m}')
    assert features.pool('cls') is None
    torch.testing.assert_close(features[0].raw, context.hidden[0][:, 4:])
    for name in ('top', 'top0', 'topK', 'mean'):
        with pytest.raises(InputError, match=f"no feature '{name}': use one of cls, registers"):
            features.pool(name)


def test_features_are_those_before_the_projector():
    torch.manual_seed(0)
    backbone = {**capi_config()['backbone'], 'num_cls_tokens': 4, 'num_registers': 0}
    plain = MODELS.build(backbone)
    projected = MODELS.build({**backbone, 'projector_dims': (12,)})
    projected.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randn(2, 3, 16, 16)
    one, other = extract_features(plain, images), extract_features(projected, images)
    for name in ('pooled', 'pooled_raw', 'cls', 'all'):
        torch.testing.assert_close(one.pool(name), other.pool(name))
    assert not torch.allclose(plain(images).visible, projected(images).visible)


def test_global_feature_is_the_first_predictor_block_at_every_position(checkpoint):
    _, model = checkpoint
    neck, images = model.branches['capi'].neck, batch(3)['inputs']
    context = model.backbone(images)
    expected = neck.global_feature(context)
    del neck.blocks[1]
    everywhere = torch.arange(16).expand(3, -1)
    mask = PatchMask(everywhere, everywhere.unsqueeze(1), torch.arange(3), GRID)
    torch.testing.assert_close(neck(context, mask).patches.mean(1), expected)


def test_extractor_is_frozen_and_normalises_as_in_training(checkpoint):
    path, _ = checkpoint
    extractor = mmmim.get_model(path).train()
    assert not extractor.training
    assert not any(p.requires_grad for p in extractor.parameters())
    assert not extractor(torch.randn(1, 3, 16, 16)).pooled.requires_grad
    default = mmmim.get_model('capi/small')
    white = default.preprocess(torch.full((1, 3, 4, 4), 255, dtype=torch.uint8))
    torch.testing.assert_close(white[0, :, 0, 0], torch.tensor([2.2489, 2.4286, 2.6400]), rtol=1e-4, atol=1e-4)


def test_a_frozen_backbone(checkpoint):
    path, model = checkpoint
    images = torch.randn(2, 3, 16, 24)
    frozen = PretrainedBackbone(str(path), frozen=True).train()
    (found,) = frozen(images)
    assert not frozen.backbone.training
    assert not found.requires_grad
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), model.teacher.backbone(images).visible)


def test_checkpoints_that_do_not_fit_are_refused(checkpoint, tmp_path):
    path, _ = checkpoint
    bad, student = torch.load(path), torch.load(path)
    del bad['state_dict']['teacher.backbone.blocks.0.norm1.weight']
    bad['state_dict']['teacher.backbone.blocks.1.norm1.weight'] = torch.ones(5)
    bad['state_dict']['teacher.backbone.cls_token'] = torch.ones(5)
    torch.save(bad, tmp_path / 'bad.pth')
    student['state_dict'] = {k: v for k, v in student['state_dict'].items() if not k.startswith('teacher.')}
    torch.save(student, tmp_path / 'student.pth')
    torch.save({'state_dict': {}}, tmp_path / 'foreign.pth')
    for name, weights, message in (
        ('bad.pth', 'auto', r'bad\.pth.*blocks\.0\.norm1\.weight.*cls_token.*blocks\.1\.norm1\.weight'),
        ('foreign.pth', 'auto', 'carries no mmmim model'),
        (path, 'teacher', "'teacher'"),
        ('student.pth', 'ema', "student weights only: use weights='student'"),
    ):
        with pytest.raises(InputError, match=message):
            mmmim.get_model(tmp_path / name, weights=weights)
    expected = mmmim.get_model(path, weights='student').state_dict()
    assert_same(mmmim.get_model(tmp_path / 'student.pth').state_dict(), expected)


def test_what_an_extractor_refuses(checkpoint):
    path, _ = checkpoint
    extractor = mmmim.get_model(path)
    with pytest.raises(InputError, match='does not divide an image of 18 x 16'):
        extractor(torch.randn(1, 3, 18, 16))
    for layer in (2, -3):
        with pytest.raises(InputError, match=f'no block {layer} in an encoder of 2: use 0 to 1'):
            extractor(torch.randn(1, 3, 16, 16), layers=(layer,))
    with pytest.raises(InputError, match='add a first dimension'):
        extractor.preprocess(torch.zeros(3, 16, 16))


def test_models_by_name():
    assert {'capi/vitl14', 'capi/vits14', 'capi/small'} <= set(mmmim.list_models())
    assert mmmim.list_models('capi/small') == ['capi/small']
    with pytest.raises(InputError, match='capi/vitl14'):
        mmmim.get_model('capi/vitl15')


@pytest.mark.parametrize('config', [None, 'mae/small', 3, {'type': 'mmmim.ViT'}, torch.nn.Identity()])
def test_what_is_no_config_of_a_model_is_refused(config):
    with pytest.raises(InputError, match=r'a dict with a backbone, not a .*get_model'):
        mmmim.FeatureExtractor(config)
