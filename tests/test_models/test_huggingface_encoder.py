"""Encoders of Hugging Face's transformers from local folders: their own hidden states, files, refusals, protocols."""

import inspect
import json
import shutil
import socket

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

import mmmim
from mmmim.apis.downstream import apply_pretrained, pretrained_facts, set_encoder
from mmmim.benchmark.encoders import read_encoders
from mmmim.checkpoints.stored_config import check_stored_model
from mmmim.engine.protocols import protocol_config, run_protocol
from mmmim.features import PretrainedBackbone
from mmmim.features.attention_maps import attention_maps, projection
from mmmim.models.backbones.huggingface_encoder import FAMILIES
from mmmim.models.backbones.huggingface_folder import read_folder, weights_file
from mmmim.registry import MODELS
from mmmim.utils import InputError

transformers = pytest.importorskip('transformers')

SIZES = dict(hidden_size=32, num_hidden_layers=3, num_attention_heads=2, image_size=64, patch_size=16)
WIDE = {**SIZES, 'intermediate_size': 64}
BEIT = {**WIDE, 'use_mean_pooling': False, 'drop_path_rate': 0.0}
#: By name: model_type, options of its config, number of CLS tokens and of extra tokens.
MODELS_OF_TRANSFORMERS = {
    'vit': ('vit', WIDE, 1, 1),
    'deit': ('deit', WIDE, 1, 2),
    'msn': ('vit_msn', WIDE, 1, 1),
    'mae': ('vit_mae', WIDE, 1, 1),
    'ijepa': ('ijepa', WIDE, 0, 0),
    'beit, shared': ('beit', {**BEIT, 'use_shared_relative_position_bias': True}, 1, 1),
    'beit, of every block': ('beit', {**BEIT, 'use_relative_position_bias': True, 'use_mean_pooling': True}, 1, 1),
    'data2vec': ('data2vec-vision', {**BEIT, 'use_relative_position_bias': True}, 1, 1),
    'data2vec, shared': ('data2vec-vision', {**BEIT, 'use_shared_relative_position_bias': True}, 1, 1),
    'dinov2': ('dinov2', SIZES, 1, 1),
    'dinov2, registers': ('dinov2_with_registers', {**SIZES, 'num_register_tokens': 3}, 1, 4),
    'dinov3': ('dinov3_vit', {**WIDE, 'num_register_tokens': 4}, 1, 5),
}
NAMES = pytest.mark.parametrize('name', MODELS_OF_TRANSFORMERS)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No connection is opened."""

    def refuse(*args, **options):
        raise AssertionError('a connection was opened')

    monkeypatch.setattr(socket.socket, 'connect', refuse)


def theirs(name, head='Model', **more):
    """A model of transformers with random weights, none of them zero or one."""
    kind, options, _, _ = MODELS_OF_TRANSFORMERS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f'{FAMILIES[kind]}Config')(**options, **more)
    model = getattr(transformers, FAMILIES[kind] + head)(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def saved(model, folder):
    model.save_pretrained(folder)
    return folder


def read(folder):
    """The encoder of a folder, with its weights."""
    return MODELS.build({**read_folder(folder), 'weights': str(weights_file(folder))}).eval()


def hidden_states(model, images, **options):
    """What transformers gives: the input of the first block, outputs of all blocks, and that after the final norm."""
    if 'interpolate_pos_encoding' in inspect.signature(model.forward).parameters:
        options['interpolate_pos_encoding'] = True
    if hasattr(model.config, 'mask_ratio'):
        model.config.mask_ratio = 0.0
        patches = images.shape[-1] * images.shape[-2] // 256
        options['noise'] = torch.linspace(0, 1, patches).expand(len(images), -1)
    with torch.no_grad():
        return model(images, output_hidden_states=True, **options)


@NAMES
def test_features_are_the_hidden_states_of_transformers(name, tmp_path):
    _, _, num_cls, num_extra = MODELS_OF_TRANSFORMERS[name]
    model = theirs(name)
    encoder = read(saved(model, tmp_path))
    found = (encoder.num_cls_tokens, encoder.num_extra_tokens, encoder.patch_size, encoder.embed_dim, encoder.depth)
    assert found == (num_cls, num_extra, 16, 32, 3)
    assert encoder.grid == (4, 4)
    for size in ((64, 64), (48, 80)):
        images = torch.randn(2, 3, *size)
        expected = hidden_states(model, images)
        with torch.no_grad():
            context = encoder(images, layers=(-1, 0, 1))
        assert context.grid == (size[0] // 16, size[1] // 16)
        last = torch.cat([context.extra, context.visible], dim=1)
        torch.testing.assert_close(last, expected.last_hidden_state, rtol=0, atol=1e-6)
        assert torch.equal(encoder.normed(context.hidden[0]), last)
        for index, hidden in ((1, context.hidden[1]), (2, context.hidden[2])):
            torch.testing.assert_close(hidden, expected.hidden_states[index], rtol=0, atol=1e-6)


@NAMES
def test_the_layer_of_every_parameter(name, tmp_path):
    encoder = read(saved(theirs(name), tmp_path))
    after = {id(p) for p in encoder.norm.parameters()}
    after |= {id(p) for n, p in encoder.named_parameters() if 'position_bias' in n and '.layer' not in n}
    blocks = {id(p): i + 1 for i, block in enumerate(encoder.blocks) for p in block.parameters()}
    layers = set()
    for parameter_name, parameter in encoder.named_parameters():
        expected = 4 if id(parameter) in after else blocks.get(id(parameter), 0)
        assert encoder.get_layer_depth(f'b.{parameter_name}', 'b.') == (expected, 5), parameter_name
        layers.add(expected)
    assert layers == {0, 1, 2, 3} | ({4} if after else set())
    assert encoder.get_layer_depth('head.weight', 'b.') == (4, 5)


@NAMES
def test_attention_is_that_of_transformers(name, tmp_path):
    model = theirs(name, attn_implementation='eager')
    encoder = read(saved(model, tmp_path))
    images = torch.randn(2, 3, 64, 64)
    expected = hidden_states(model, images, output_attentions=True).attentions
    for index, found in enumerate(attention_maps(encoder, images, [0, 1, 2])):
        torch.testing.assert_close(found, expected[index], rtol=0, atol=1e-5)
    made = [projection(encoder, images, kind) for kind in ('queries', 'keys', 'values')]
    assert {each.shape for each in made} == {(2, encoder.num_extra_tokens + 16, 32)}
    assert not torch.equal(made[0], made[1])
    assert not torch.equal(made[1], made[2])


@NAMES
def test_what_the_features_depend_on_gets_gradients(name, tmp_path):
    config = read_folder(saved(theirs(name), tmp_path))
    model = PretrainedBackbone('random', encoder=config, out_indices=(0, 1))
    sum(m.mean() + m.square().mean() for m in model(torch.randn(2, 3, 64, 50))).backward()
    for parameter_name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, parameter_name
    assert not any(parameter.requires_grad for parameter in model.backbone.blocks[2].parameters())


@pytest.mark.parametrize('name', ['dinov3', 'mae', 'data2vec'])
def test_half_precision(name, tmp_path):
    encoder = read(saved(theirs(name), tmp_path))
    images = torch.randn(2, 3, 64, 48)
    with torch.no_grad():
        exact = encoder(images).visible
        found = encoder.bfloat16()(images).visible
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).norm() < 0.05 * exact.norm()
    if name == 'dinov3':
        rope = theirs(name).rope_embeddings
        assert torch.equal(encoder.encoder.rope_embeddings.inv_freq, rope.inv_freq)


def of_timm(state):
    """Weights as published, under the names of timm."""
    state = {key.removeprefix('vit.'): value for key, value in state.items()}
    fixed = {
        'embeddings.cls_token': 'cls_token',
        'embeddings.position_embeddings': 'pos_embed',
        'embeddings.patch_embeddings.projection.': 'patch_embed.proj.',
        'layernorm.': 'norm.',
        'encoder.layer.': 'blocks.',
        '.attention.output.dense.': '.attn.proj.',
        '.layernorm_before.': '.norm1.',
        '.layernorm_after.': '.norm2.',
        '.intermediate.dense.': '.mlp.fc1.',
        '.output.dense.': '.mlp.fc2.',
        '.layer_scale1.lambda1': '.ls1.gamma',
        '.layer_scale2.lambda1': '.ls2.gamma',
    }
    renamed = {}
    for key, value in state.items():
        for old, new in fixed.items():
            key = key.replace(old, new, 1) if key.startswith(old) or old.startswith('.') else key
        renamed[key] = value
    for key in [key for key in renamed if '.attention.attention.query.' in key]:
        parts = [renamed.pop(key.replace('query', part)) for part in ('query', 'key', 'value')]
        renamed[key.replace('attention.attention.query', 'attn.qkv')] = torch.cat(parts)
    return {key: value for key, value in renamed.items() if not key.startswith(('decoder', 'embeddings.mask_token'))}


@pytest.mark.parametrize(
    ('name', 'head', 'more', 'model'),
    [
        ('dinov2', 'Model', {}, 'vit_small_patch14_dinov2'),
        ('mae', 'ForPreTraining', {'layer_norm_eps': 1e-6}, 'vit_base_patch16_224.mae'),
    ],
)
def test_the_same_weights_in_timm(name, head, more, model, tmp_path):
    folder = saved(theirs(name, head, **more), tmp_path)
    ratio = 4.0 if name == 'dinov2' else 2.0
    options = {'embed_dim': 32, 'depth': 3, 'num_heads': 2, 'img_size': 64, 'patch_size': 16, 'mlp_ratio': ratio}
    reference = timm.create_model(model, num_classes=0, **options).eval()
    reference.load_state_dict(of_timm(load_file(folder / 'model.safetensors')))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        context, expected = (
            read(folder)(images),
            reference.norm(
                reference.forward_intermediates(
                    images, indices=1, norm=False, output_fmt='NLC', return_prefix_tokens=True, intermediates_only=True
                )[0][0]
            ),
        )
        torch.testing.assert_close(context.visible, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ('name', 'head', 'left_out'),
    [
        ('vit', 'ForImageClassification', 'classifier'),
        ('mae', 'ForPreTraining', 'decoder'),
        ('dinov2', 'ForImageClassification', 'classifier'),
        ('beit, shared', 'ForImageClassification', 'classifier'),
        ('data2vec', 'ForImageClassification', 'classifier'),
    ],
)
@pytest.mark.parametrize('suffix', ['safetensors', 'bin'])
def test_files_of_models_with_heads(name, head, left_out, suffix, tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr('mmmim.models.backbones.huggingface_encoder.print_log', lambda text, logger: lines.append(text))
    model = theirs(name, head)
    saved(model, tmp_path)
    if suffix == 'bin':
        torch.save(load_file(tmp_path / 'model.safetensors'), tmp_path / 'pytorch_model.bin')
        (tmp_path / 'model.safetensors').unlink()
    state = read(tmp_path).encoder.state_dict()
    base = model.base_model.state_dict()
    assert all(torch.equal(value, base[key]) for key, value in state.items())
    assert len(lines) == 1
    assert lines[0].startswith('Left out of')
    assert left_out in lines[0]


def test_it_stands_in_the_place_of_a_vit_without_its_folder(tmp_path):
    model = theirs('dinov2, registers')
    folder = saved(model, tmp_path / 'dino')
    statistics = {'image_mean': [0.5, 0.4, 0.3], 'image_std': [0.2, 0.2, 0.1], 'rescale_factor': 1 / 255}
    (folder / 'preprocessor_config.json').write_text(json.dumps(statistics))
    facts = pretrained_facts(folder)
    assert (facts.embed_dim, facts.depth, facts.patch_size, facts.image_size) == (32, 3, 16, 64)
    assert (facts.mean, facts.std) == ([127.5, 102.0, 76.5], [51.0, 51.0, 25.5])
    assert facts.checkpoint == str(folder / 'model.safetensors')
    options = {'out_indices': (1 / 3, 2 / 3), 'drop_path_rate': 0.2}
    stored = {'type': 'mmmim.PretrainedBackbone', 'checkpoint': facts.checkpoint, 'encoder': facts.encoder}
    check_stored_model({'backbone': stored}, 'file.pth')  # as a checkpoint of a downstream task holds it
    trained = PretrainedBackbone(facts.checkpoint, encoder=facts.encoder, **options)
    shutil.rmtree(folder)
    maps = trained(torch.randn(2, 3, 64, 50))
    assert [m.shape for m in maps] == [(2, 32, 4, 3)] * 2
    sum(m.mean() + m.square().mean() for m in maps).backward()
    for name, parameter in trained.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    rates = [block.drop_path.drop_prob for block in trained.backbone.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2])
    again = PretrainedBackbone('load_from', encoder=facts.encoder, frozen=True, **options)
    again.load_state_dict(trained.state_dict())
    images = torch.randn(1, 3, 64, 64)
    trained.eval()
    assert all(torch.equal(a, b) for a, b in zip(again(images), trained(images), strict=True))
    assert not any(feature.requires_grad for feature in again(images))


def test_by_name_in_python_and_on_the_command_line(tmp_path):
    folder = saved(theirs('dinov2'), tmp_path / 'dino')
    named = f'huggingface:{folder}'
    file = folder / 'model.safetensors'
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    found = []
    for source in (folder, named, f'{named}={file}'):
        extractor = mmmim.get_model(source)
        found.append(extractor(extractor.preprocess(images)).cls)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    random = mmmim.get_model(f'{named}=random')
    assert not torch.equal(random(random.preprocess(images)).cls, found[0])
    (folder / 'model.safetensors').rename(tmp_path / 'elsewhere.safetensors')
    with pytest.raises(InputError, match=r'dino holds no model\.safetensors and no pytorch_model\.bin'):
        mmmim.get_model(folder)
    mmmim.get_model(f'{named}={tmp_path}/elsewhere.safetensors')


def test_a_fitted_protocol_and_the_encoders_of_a_benchmark(tmp_path, fashion_scenes):
    folder = saved(theirs('mae'), tmp_path / 'mae')
    random, given = read_encoders([f'huggingface:{folder}'])
    assert (given.label, random.label) == ('huggingface:mae', 'random weights, as huggingface:mae')
    assert given.words == ['--pretrained', str(folder / 'model.safetensors'), '--encoder', f'huggingface:{folder}']
    assert (given.about['type'], given.twin, given.has('cls'), given.has('predicted')) == (
        'vit_mae', random.label, True, False
    )  # fmt: skip
    with pytest.raises(InputError, match='is given twice'):
        read_encoders([f'huggingface:{folder}', str(folder)])
    scores = []
    for encoder in (random, given):
        cfg = protocol_config('cls_knn_fashion')
        encoder.apply(cfg)
        for loader, indices in ((cfg.fit_dataloader, range(0, 9000, 90)), (cfg.test_dataloader, range(0, 2000, 100))):
            loader.dataset.data_root, loader.dataset.indices = str(fashion_scenes), list(indices)
            loader.num_workers = 0
        cfg.work_dir, cfg.test_cfg.probe.k = str(tmp_path / 'work'), [10]
        scores.append(run_protocol(cfg).metrics['k_10/accuracy/top1'])
    assert all(0 <= score <= 100 for score in scores)


def config_of(folder, **changes):
    """The config of a folder, changed."""
    file = folder / 'config.json'
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_code_that_a_folder_names_is_never_looked_at(tmp_path):
    folder = saved(theirs('vit'), tmp_path / 'vit')
    (folder / 'evil.py').write_text('raise SystemExit("code of a folder was run")')
    code = {'AutoConfig': 'evil.Config', 'AutoModel': 'evil.Model', 'AutoImageProcessor': 'evil.Processor'}
    config_of(folder, auto_map=code, trust_remote_code=True, custom_pipelines={'x': {'impl': 'evil.P'}},
              _attn_implementation='someone/kernels', attn_implementation='someone/kernels',
              quantization_config={'quant_method': 'evil'}, architectures=['Evil'])  # fmt: skip
    (folder / 'preprocessor_config.json').write_text(
        json.dumps({'auto_map': code, 'image_mean': 0.5, 'image_std': 0.5})
    )
    config = read_folder(folder)
    assert 'evil' not in json.dumps(config)
    assert 'someone' not in json.dumps(config)
    assert read(folder).mean == [127.5] * 3


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'model_type': 'resnet'},
            r"takes no model of the type 'resnet', only plain Vision Transformers: beit, .*vit_msn",
        ),
        ({'model_type': None}, 'has no model_type'),
        ({'image_size': [64, 32]}, r'image_size=\[64, 32\]: use a model of square images and patches'),
        ({'patch_size': 'x'}, 'transformers cannot make vit with .*patch_size'),
        ({'hidden_act': 'none'}, 'transformers cannot make vit with .*none'),
        ({'num_attention_heads': 5}, 'transformers cannot make vit with|does not fit'),
    ],
)
def test_configs_that_are_refused(changes, message, tmp_path):
    folder = saved(theirs('vit'), tmp_path)
    config_of(folder, **changes)
    with pytest.raises(InputError, match=message) as error:
        read(folder)
    assert '\n' not in str(error.value)


def test_folders_that_are_refused(tmp_path):
    for name in ('facebook/dinov2-base', str(tmp_path / 'none'), str(tmp_path)):
        with pytest.raises(InputError, match=r'is no folder with a config\.json, and nothing is downloaded'):
            mmmim.get_model(f'huggingface:{name}')
    with pytest.raises(InputError, match='is no folder with a config'):
        read_encoders(['huggingface:facebook/dinov2-base'])
    folder = saved(theirs('vit'), tmp_path)
    for text, message in (
        ('{', 'image_mean|cannot be read'),
        ('[]', 'holds a list'),
        ('{"image_mean": "x"}', 'are no finite numbers'),
        ('{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, NaN]}', 'image_std=.* are no finite numbers'),
        ('{"image_mean": [0.5], "image_std": [0.5]}', r'3 channel\(s\) and has the mean and std of 1 and 1'),
    ):
        (folder / 'preprocessor_config.json').write_text(text)
        with pytest.raises(InputError, match=message):
            read(folder)
    (folder / 'preprocessor_config.json').unlink()
    (folder / 'config.json').write_text('{')
    with pytest.raises(InputError, match=r'config\.json cannot be read'):
        read_folder(folder)
    (folder / 'model.safetensors').rename(folder / 'model.safetensors.index.json')
    with pytest.raises(InputError, match='holds weights in several files'):
        weights_file(folder)


def test_weights_that_are_refused(tmp_path):
    folder = saved(theirs('vit'), tmp_path)
    file = folder / 'model.safetensors'
    good = load_file(file)
    name = next(key for key in good if '.2.' in key and key.endswith('bias'))
    for state, message in (
        ({key: value for key, value in good.items() if key != name}, r'does not fit ViTModel.*1 missing'),
        ({**good, 'neck.weight': torch.ones(1)}, r'1 unexpected \(neck\.weight\)'),
        ({**good, name: torch.ones(7)}, r'1 of another shape \(.*: \[7\]'),
        ({**good, name: torch.full_like(good[name], torch.nan)}, 'holds wrong values: .*NaN'),
        ({**good, name: torch.ones_like(good[name]).int()}, 'holds wrong values: .*integer numbers'),
    ):
        save_file(state, file)
        with pytest.raises(InputError, match=message):
            read(folder)
    file.write_bytes(b'nothing')
    with pytest.raises(InputError, match='damaged'):
        read(folder)
    file.unlink()
    torch.save({'args': object}, folder / 'pytorch_model.bin')
    with pytest.raises(InputError, match=r'hostile|Python objects'):
        read(folder)


def test_options_on_the_command_line(tmp_path):
    folder = saved(theirs('vit'), tmp_path)
    with pytest.raises(InputError, match=r'vit of transformers has no drop_path_rate: leave it out\. It has attention'):
        PretrainedBackbone('random', encoder=read_folder(folder), drop_path_rate=0.1)
    cfg = protocol_config('cls_knn_fashion')
    set_encoder(cfg, f'huggingface:{folder}')
    cfg.model.backbone.encoder.mean = [1.0, 2.0, 3.0]
    apply_pretrained(cfg, str(folder))
    assert list(cfg.model.backbone.encoder.mean) == [1.0, 2.0, 3.0]
    assert cfg.model.backbone.checkpoint == str(folder / 'model.safetensors')
