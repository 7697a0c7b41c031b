"""Pre-training that starts from the encoder of a file: what is loaded computes the same, what is not is said."""

import json
import pickle

import pytest
import torch
from mmengine import Config
from safetensors.torch import save_file

import mmmim
from mmmim.apis.initial import check_start, start_from
from mmmim.checkpoints.safetensors_file import write_safetensors
from mmmim.cli.run import build_config
from mmmim.cli.train import COMMAND, build_parser
from mmmim.config.read import load_config
from mmmim.engine import Runner
from mmmim.registry import MODELS
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.shrink import shrink, write_images
from tests.test_converters.samples import mae
from tests.toys import capi_config, mae_config, save_model

VIT = {'type': 'mmmim.ViT', 'img_size': 16, 'patch_size': 4, 'embed_dim': 64, 'depth': 2, 'num_heads': 1}


def config(**backbone):
    """A pre-training with a teacher, of an encoder of width 64."""
    model = mae_config()
    model['backbone'] = {**VIT, **backbone}
    neck = model['branches']['pixels']['neck']
    side = model['backbone']['img_size'] // model['backbone']['patch_size']
    neck |= {'context_dim': model['backbone']['embed_dim'], 'grid': (side, side)}
    target = model['branches']['pixels']['target_generator']
    target['patch_size'] = patch = model['backbone']['patch_size']
    target['in_channels'] = channels = model['backbone'].get('in_channels', 3)
    neck['out_dim'] = channels * patch**2
    model['data_preprocessor'] = {
        'type': 'mmmim.MIMDataPreprocessor',
        'mean': [0.0] * channels,
        'std': [1.0] * channels,
    }
    return {**model, 'teacher': ['backbone'], 'teacher_init': 'own'}


def build(seed=1, **backbone):
    torch.manual_seed(seed)
    return MODELS.build(config(**backbone))


def started(source, said=None, weights='auto', **backbone):
    """The model that starts from a file, and the line of the log."""
    lines = []
    model = build(**backbone)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('mmmim.apis.initial.print_log', lambda line, **_: lines.append(line))
        start_from(model, str(source), weights)
    (line,) = lines
    assert all(words in line for words in said or ()), line
    for key, value in model.backbone.state_dict().items():
        assert torch.equal(value, model.teacher.backbone.state_dict()[key]), key
    return model.backbone.eval(), line


def save(path, seed=0, **backbone):
    """A checkpoint of mmmim, and its encoder."""
    torch.manual_seed(seed)
    model = config(**backbone)
    saved = save_model(path, model)
    return mmmim.get_model(saved).backbone


def images(size=16):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def same(one, other, x=None, **tolerance):
    x = images() if x is None else x
    torch.testing.assert_close(one(x).visible, other(x).visible, **tolerance)
    torch.testing.assert_close(one(x).extra, other(x).extra, **tolerance)


@pytest.mark.parametrize('kind', ['student', 'ema'])
def test_a_checkpoint_of_mmmim(tmp_path, kind):
    save(tmp_path / 'x.pth')
    theirs = mmmim.get_model(tmp_path / 'x.pth', kind).backbone
    model, line = started(tmp_path / 'x.pth', [f'{kind} weights', 'fixed positions', 'branches.pixels'], kind)
    same(model, theirs)
    assert 'left out' not in line


@pytest.mark.parametrize(('options', 'own', 'said'), [
    ({'qkv_bias': False}, {}, ['biases are 0']),
    ({'qkv_bias': 'qv'}, {'layer_scale': 0.1}, ['biases are 0', 'factors of residual branches are 1']),
    ({'positions': 'learnable', 'extra_positions': True}, {'positions': 'learnable'}, ['positions']),
    ({}, {'positions': 'learnable', 'extra_positions': True}, ['positions']),
    ({'num_cls_tokens': 5}, {'num_cls_tokens': 5, 'projector_dims': (8,)}, ['CLS', 'anew: projector']),
    ({}, {'fused': True}, ['anew: mask token']),
])  # fmt: skip
def test_what_differs_and_computes_the_same(tmp_path, options, own, said):
    theirs = save(tmp_path / 'x.pth', **options)
    model, _ = started(tmp_path / 'x.pth', said, **own)
    state = images()
    torch.testing.assert_close(
        model(state, layers=(-1,)).hidden[0], theirs(state, layers=(-1,)).hidden[0], rtol=1e-5, atol=1e-5
    )


def test_what_starts_anew_keeps_its_random_weights(tmp_path):
    """Rotary positions, registers in the place of CLS, no weights in the final norm."""
    save(tmp_path / 'x.pth')
    own = {'positions': 'rope', 'num_cls_tokens': 0, 'num_registers': 4, 'final_affine': False}
    said = ['anew: registers, positions', 'left out of the file: CLS, positions, final norm']
    model, _ = started(tmp_path / 'x.pth', said, **own)
    before = build(**own).backbone.state_dict()
    theirs = mmmim.get_model(tmp_path / 'x.pth').backbone.state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(value, (before if key in ('extra_tokens', 'positions.freqs') else theirs)[key]), key


def test_learned_positions_on_another_grid(tmp_path):
    """They are interpolated: the encoder starts as the file's is on images of this size."""
    theirs = save(tmp_path / 'x.pth', positions='learnable')
    model, _ = started(tmp_path / 'x.pth', ['interpolated from 4 x 4 to 6 x 6'], positions='learnable', img_size=24)
    same(model, theirs, images(24))
    _, line = started(tmp_path / 'x.pth', img_size=24)
    assert 'positions, which are fixed here' in line


def test_relative_positions_on_another_grid(tmp_path):
    save(tmp_path / 'x.pth', positions='relative_shared')
    content = torch.load(tmp_path / 'x.pth')
    for key in ('backbone.positions.table', 'teacher.backbone.positions.table'):
        content['state_dict'][key].normal_()
    torch.save(content, tmp_path / 'x.pth')
    theirs = mmmim.get_model(tmp_path / 'x.pth').backbone
    words = ['relative positions interpolated from 4 x 4 to 6 x 6']
    model, _ = started(tmp_path / 'x.pth', words, positions='relative_shared', img_size=24)
    same(model, theirs, images(24))
    _, line = started(tmp_path / 'x.pth')
    assert 'start anew: positions' in line


def timm_model(**options):
    timm = pytest.importorskip('timm')
    sizes = {'img_size': 16, 'patch_size': 4, 'embed_dim': 64, 'depth': 2, 'num_heads': 2}
    torch.manual_seed(0)
    model = timm.create_model('vit_tiny_patch16_224', **{**sizes, **options}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def test_a_file_of_timm(tmp_path, monkeypatch):
    """Of a model by its name, with its own number of heads; of another name it does not fit."""
    model = timm_model()
    save_file(model.state_dict(), tmp_path / 'x.safetensors')
    timm = pytest.importorskip('timm')
    create = timm.create_model
    monkeypatch.setattr(timm, 'create_model', lambda name, **options: create(
        name, **{**options, 'img_size': 16, 'patch_size': 4, 'embed_dim': 64, 'depth': 2, 'num_heads': 2}
    ))  # fmt: skip
    source = f'timm:vit_tiny_patch16_224={tmp_path / "x.safetensors"}'
    mine, _ = started(source, ['vit_tiny_patch16_224 of timm', 'CLS'], num_heads=2, positions='learnable')
    tokens = model.forward_features(images())
    torch.testing.assert_close(mine(images()).visible, tokens[:, 1:], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(mine(images()).extra, tokens[:, :1], rtol=1e-5, atol=1e-5)
    for wrong, message in (
        (source.replace('tiny_patch16_224', 'small'), 'has no model'),
        ('timm:vit_tiny_patch16_224', 'write timm:NAME=FILE'),
        (source, r'num_heads=2, the config 1'),
    ):
        with pytest.raises(InputError, match=message):
            start_from(build(), wrong)


def test_a_bare_file_of_timm_and_of_the_authors_of_mae(tmp_path):
    model = timm_model(num_heads=1, class_token=False, global_pool='avg', fc_norm=False, reg_tokens=4, init_values=1.0)
    save_file(model.state_dict(), tmp_path / 'x.safetensors')
    own = {'num_cls_tokens': 0, 'num_registers': 4, 'positions': 'learnable', 'layer_scale': 0.1}
    mine, _ = started(tmp_path / 'x.safetensors', ['registers'], **own)
    torch.testing.assert_close(mine(images()).visible, model.forward_features(images())[:, 4:], rtol=1e-5, atol=1e-5)
    torch.save({'model': mae()}, tmp_path / 'mae.pth')
    own = {'img_size': 12, 'positions': 'learnable'}
    mine, _ = started(tmp_path / 'mae.pth', ['positions'], **own)
    assert torch.equal(mine.state_dict()['blocks.1.mlp.fc2.bias'], mae()['blocks.1.mlp.fc2.bias'])


def test_hugging_face(tmp_path):
    transformers = pytest.importorskip('transformers')
    sizes = {'hidden_size': 64, 'num_hidden_layers': 2, 'num_attention_heads': 2, 'intermediate_size': 256}
    sizes |= {'image_size': 16, 'patch_size': 4}
    beit = {'use_absolute_position_embeddings': True, 'use_mean_pooling': False, 'use_mask_token': True}
    for name, options, own in (
        ('ViT', {}, {'norm_eps': 1e-12}),
        ('IJepa', {}, {'num_cls_tokens': 0}),
        ('Beit', beit, {'layer_scale': 0.1, 'qkv_bias': 'qv', 'fused': True}),
        ('Dinov2', {}, {'layer_scale': 0.1}),
        ('Dinov2WithRegisters', {}, {'layer_scale': 0.1, 'num_registers': 4}),
    ):
        torch.manual_seed(0)
        settings = getattr(transformers, f'{name}Config')(**sizes, **options)
        model = getattr(transformers, f'{name}Model')(settings).eval()
        model.save_pretrained(tmp_path / name)
        own = {'num_heads': 2, 'positions': 'learnable', **own}
        own.setdefault('norm_eps', settings.layer_norm_eps)
        mine, line = started(tmp_path / name, **own)
        with torch.no_grad():
            tokens = model(images()).last_hidden_state
        extra = mine(images()).extra.shape[1]
        torch.testing.assert_close(mine(images()).visible, tokens[:, extra:], rtol=1e-5, atol=1e-5)
        assert 'norm_eps' not in line


@pytest.mark.parametrize(('options', 'message'), [
    ({'embed_dim': 32}, r'embed_dim=32, the config 64'),
    ({'patch_size': 8}, r'patch_size=8, the config 4'),
    ({'depth': 1}, r'depth=1, the config 2'),
    ({'in_channels': 1}, r'in_channels=1, the config 3'),
    ({'norm': 'rms'}, r'norm=rms, the config layer'),
    ({'mlp_ratio': 2.0}, r'blocks\.0\.mlp\.fc1\.bias is \[128\], here \[256\].*mlp_ratio'),
    ({'layer_scale': 0.1}, r'blocks\.0\.scale1\.weight has no place here.*layer_scale'),
])  # fmt: skip
def test_what_does_not_fit_is_refused(tmp_path, options, message):
    save_model(tmp_path / 'x.pth', config(**options))
    with pytest.raises(InputError, match=message):
        check_start({'model': config(), 'init': {'source': str(tmp_path / 'x.pth')}})


class Evil:
    def __reduce__(self):
        import os

        return os.system, ('touch hit',)


def test_files_that_are_no_encoder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = config()
    save_model('x.pth', good)
    content = torch.load('x.pth')
    lacking = {key: value for key, value in content['state_dict'].items() if 'blocks.1' not in key}
    torch.save({**content, 'state_dict': lacking}, 'lacking.pth')
    torch.save({'a': torch.zeros(2), 'b': torch.zeros(2)}, 'other.pth')
    with open('evil.pth', 'wb') as file:
        pickle.dump(Evil(), file)
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'swin').mkdir()
    (tmp_path / 'swin' / 'config.json').write_text(json.dumps({'model_type': 'swin'}))
    save_file({'a': torch.zeros(2)}, 'swin/model.safetensors')
    for name, options in (
        ('huge', {'embed_dim': 999_936}),
        ('code', {'norm_layer': 'os.system'}),
        ('odd', {'depth': 9}),
    ):
        (tmp_path / name).mkdir()
        described = {'architecture': 'vit_tiny_patch16_224', 'model_args': options}
        (tmp_path / name / 'config.json').write_text(json.dumps(described))
        save_file({'pos_embed': torch.zeros(1, 2, 2)}, f'{name}/model.safetensors')
    bad = timm_model(num_heads=1).state_dict() | {'cls_token': torch.zeros(1, 64)}
    save_file(bad, 'shape.safetensors')
    save_file({'a': torch.zeros(2)}, 'lies.safetensors', {'mmmim': '[[['})
    evil = {'backbone': {'type': 'os.system', 'command': 'touch hit'}}
    write_safetensors('evil.safetensors', {'backbone.x': torch.zeros(1)}, {'version': 1, 'model': evil})
    for source, message in (
        ('none.pth', 'does not exist'),
        ('lacking.pth', r'missing \(blocks\.1'),
        ('other.pth', r'holds no encoder that a pre-training can start from.*Its names are a, b'),
        ('evil.pth', 'is hostile'),
        ('folder', 'without config.json'),
        ('swin', 'is of a swin'),
        ('shape.safetensors', r'cls_token has the shape \[1, 64\], not \[1, tokens, 64\]'),
        ('huge', 'does not fit TimmEncoder'),
        ('code', r'model_args\.norm_layer is no size of a model'),
        ('odd', r'missing \(encoder\.cls_token'),
        ('lies.safetensors', 'no JSON'),
        ('evil.safetensors', 'not registered as a class'),
    ):
        with pytest.raises(InputError, match=message):
            start_from(build(), source)
    assert not (tmp_path / 'hit').exists()


def test_a_training_starts_from_it(tmp_path):
    """By the runner, before the first step; its checkpoint does not name the file."""
    write_images(tmp_path / 'images')
    small = shrink(load_config(str(ROOT / 'configs/ijepa/small.py')), tmp_path / 'images', tmp_path / 'run')
    small.init = {'source': save_model(tmp_path / 'x.pth', small.model.to_dict())}
    small.model.backbone.drop_path_rate = 0.0
    check_start(small)
    runner = Runner.from_cfg(small)
    runner._init_model_weights()
    theirs = mmmim.get_model(tmp_path / 'x.pth', 'ema').backbone.state_dict()
    for part in (runner.model.backbone, runner.model.teacher.backbone):
        assert all(torch.equal(value, theirs[key]) for key, value in part.state_dict().items())
    for wrong, message in (
        ({'load_from': 'y.pth'}, 'leave one of them out'),
        ({'model': {'type': 'mmseg.EncoderDecoder', 'backbone': {}}}, '--pretrained CHECKPOINT'),
    ):
        with pytest.raises(InputError, match=message):
            check_start(Config({**small.to_dict(), **wrong}))


def test_a_checkpoint_does_not_name_the_file_that_its_training_started_from(tmp_path):
    """Otherwise none could be used: what a file says is never read."""
    from mmmim.engine.named_files import without_files

    first = {'type': 'Pretrained', 'checkpoint': 'x.pth'}
    other = {'type': 'Constant', 'val': 0.0}
    model = capi_config()
    model['backbone']['init_cfg'] = [first, other]
    model['branches']['capi']['neck']['init_cfg'] = first
    cleaned = without_files(model)
    assert cleaned['backbone']['init_cfg'] == [other]
    assert cleaned['branches']['capi']['neck']['init_cfg'] is None


def test_the_command_line_says_where_a_training_starts(tmp_path):
    def cfg_of(*words):
        args = build_parser().parse_args(['mae/small', '--work-dir', str(tmp_path), *words])
        return build_config(args, COMMAND)

    assert cfg_of('--init', 'x.pth', '--weights', 'student').init == {'source': 'x.pth', 'weights': 'student'}
    assert cfg_of().get('init') is None
    for words, message in (
        (['--init', 'x.pth', '--pretrained', 'y.pth'], 'leave one of them out'),
        (['--init', 'x.pth', '--weights', 'random'], r'init\.weights must be one of'),
        (['--cfg-options', '+init.file=x.pth'], r'init.*file'),
    ):
        with pytest.raises(InputError, match=message):
            cfg_of(*words)


def test_norms_in_other_places(tmp_path):
    own = {'post_norm': True, 'embedding_norm': True, 'final_norm': False}
    theirs = save(tmp_path / 'x.pth', **own)
    model, _ = started(tmp_path / 'x.pth', ['norm before the blocks'], **own)
    same(model, theirs)
    with pytest.raises(InputError, match=r'it has post_norm=True, the config False'):
        start_from(build(), str(tmp_path / 'x.pth'), 'auto')
