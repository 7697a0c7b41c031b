"""Exported encoders: each is loaded by the other library and gives the features that it gives here."""

import json
import subprocess
import sys
from functools import cache

import pytest
import torch
from mmengine import Config

import mmmim
from mmmim.apis.downstream import pretrained_facts
from mmmim.apis.initial import check_start
from mmmim.cli.export import main
from mmmim.export import FORMATS, export
from mmmim.features import FeatureExtractor, PretrainedBackbone
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.registered import ENCODERS, scrambled
from tests.shrink import shrink_model, without_files
from tests.toys import capi_config, save_model

#: By method: a config of it, and the class of transformers that its encoder is; None for code of its own.
METHODS = {
    'mae/vitb16': 'ViTModel',
    'pilamim/vitb16': 'ViTModel',
    'latent_mim/vitb16': 'ViTModel',
    'ijepa/vitb16': 'IJepaModel',
    'beit/vitb16': 'BeitModel',
    'maskfeat/vitb16': 'ViTModel',
    'semantic_mim/beit_vitb16': 'MmmimViTModel',
    'semantic_mim/maskfeat_vitb16': 'MmmimViTModel',
    'data2vec/vitb16': 'MmmimViTModel',
    'capi/vits14': 'MmmimViTModel',
    'crossmae/vitb16': 'MmmimViTModel',
    'simmim/vitb16': 'MmmimViTModel',
    'mff/vitb16': 'ViTModel',
}
CLOSE = {'rtol': 1e-5, 'atol': 1e-5}


@cache
def encoder(method, depth=2):
    """The encoder of a config, made small, with random weights everywhere."""
    model = without_files(Config.fromfile(ROOT / f'configs/{method}.py').model)
    shrink_model(model)
    model.backbone.depth = depth
    return scrambled(FeatureExtractor(model.to_dict()), 0.1)


def images(extractor, number=2, more=(0, 0), seed=0):
    sides = (side + extra for side, extra in zip(extractor.backbone.grid, more, strict=True))
    size = (side * extractor.patch_size for side in sides)
    return torch.randn(number, 3, *size, generator=torch.Generator().manual_seed(seed))


def tokens(extractor, x):
    last = extractor(x)[-1]
    return torch.cat([last.extra, last.patches], dim=1)


# ----------------------------------------------------------------------------------------------------------- own files


@pytest.mark.parametrize('to', ['backbone', 'safetensors'])
def test_mmmim_reads_its_own_files_wherever_it_reads_checkpoints(tmp_path, to, capsys):
    source = save_model(tmp_path / 'x.pth', capi_config(), optimizer={'state': torch.zeros(20_000)})
    out = str(tmp_path / f'y{FORMATS[to].ending}')
    main([source, out, '--to', to])
    assert 'MB' in capsys.readouterr().out
    before, after = mmmim.get_model(source), mmmim.get_model(out)
    x = images(before)
    assert torch.equal(tokens(after, x), tokens(before, x))
    assert (after(x).predicted is None) == (to == 'backbone')
    assert after.kind == 'ema'
    facts = pretrained_facts(out)
    assert facts.encoder['num_registers'] == 4
    assert torch.equal(PretrainedBackbone(out, facts.checkpoint and 'ema')(x)[0], PretrainedBackbone(source)(x)[0])
    check_start({'model': capi_config(), 'init': {'source': out}})
    with pytest.raises(InputError, match='ema weights only'):
        mmmim.get_model(out, 'student')
    assert (tmp_path / out).stat().st_size < 0.5 * (tmp_path / 'x.pth').stat().st_size
    for form in ('backbone', 'safetensors'):  # of an exported file again
        export(after, tmp_path / f'z{FORMATS[form].ending}', form)


def test_an_encoder_of_another_library_becomes_a_file_of_mmmim(tmp_path):
    torch.manual_seed(0)
    first = FeatureExtractor({'backbone': ENCODERS['timm']})
    torch.save(first.backbone.encoder.state_dict(), tmp_path / 'theirs.pth')
    foreign = FeatureExtractor({'backbone': {**ENCODERS['timm'], 'weights': str(tmp_path / 'theirs.pth')}})
    export(foreign, tmp_path / 'x.safetensors', 'safetensors')
    (tmp_path / 'theirs.pth').unlink()
    x = images(foreign)
    assert torch.equal(tokens(mmmim.get_model(tmp_path / 'x.safetensors'), x), tokens(foreign, x))


def test_the_library_of_safetensors_reads_names_and_tensors(tmp_path):
    from safetensors import safe_open

    extractor = encoder('capi/vits14')
    export(extractor, tmp_path / 'x.safetensors', 'safetensors')
    with safe_open(tmp_path / 'x.safetensors', 'pt') as file:
        assert set(file.keys()) == set(extractor.named_state())
        assert json.loads(file.metadata()['mmmim'])['model']['backbone']['positions'] == 'rope'


def test_hub_files(tmp_path):
    """``save_pretrained`` and ``from_pretrained`` of huggingface_hub, without a network."""
    pytest.importorskip('huggingface_hub')
    extractor = encoder('capi/vits14')
    extractor.save_pretrained(tmp_path / 'x')
    loaded = FeatureExtractor.from_pretrained(tmp_path / 'x')
    x = images(extractor)
    assert torch.equal(loaded(x).predicted, extractor(x).predicted)
    assert {path.name for path in (tmp_path / 'x').iterdir()} == {'README.md', 'config.json', 'model.safetensors'}
    (tmp_path / 'x' / 'config.json').write_text('{"state": "os.system", "config": {"backbone": {"type": "os.system"}}}')
    assert torch.equal(FeatureExtractor.from_pretrained(tmp_path / 'x')(x).pooled, extractor(x).pooled)


# ----------------------------------------------------------------------------------------------------- other libraries


@pytest.mark.parametrize('method', [name for name in METHODS if not name.startswith(('capi', 'data2vec', 'simmim'))])
def test_timm(tmp_path, method):
    timm = pytest.importorskip('timm')
    extractor = encoder(method)
    export(extractor, tmp_path / 'x', 'timm', 'runs/x.pth')
    model = timm.create_model(f'local-dir:{tmp_path / "x"}', pretrained=True).eval()
    x = images(extractor)
    with torch.no_grad():
        torch.testing.assert_close(model.forward_features(x), tokens(extractor, x), **CLOSE)
    data = timm.data.resolve_model_data_config(model)
    assert data['input_size'][1:] == tuple(x.shape[-2:])
    shown = torch.full((1, 3, 4, 4), 200, dtype=torch.uint8)
    mean, std = (torch.tensor(data[key]).view(3, 1, 1) for key in ('mean', 'std'))
    torch.testing.assert_close((shown / 255 - mean) / std, extractor.preprocess(shown))
    card = (tmp_path / 'x' / 'README.md').read_text()
    assert 'library_name: timm' in card
    assert 'runs/' not in card
    mine = {'model': without_files(Config.fromfile(ROOT / f'configs/{method}.py').model)}
    shrink_model(mine['model'])
    check_start(Config({**mine, 'init': {'source': str(tmp_path / 'x')}}))  # and it comes back


def test_timm_has_no_rotary_registers(tmp_path):
    with pytest.raises(InputError, match=r'rotary positions with registers on the border and RMSNorm: use --to hugg'):
        export(encoder('capi/vits14'), tmp_path / 'x', 'timm')
    with pytest.raises(InputError, match='which has relative positions: use --to huggingface'):
        export(encoder('data2vec/vitb16'), tmp_path / 'x', 'timm')
    assert not (tmp_path / 'x').exists()


@pytest.mark.parametrize('to', ['timm', 'huggingface'])
def test_norms_after_sums_are_refused(tmp_path, to):
    with pytest.raises(InputError, match='has post_norm or embedding_norm: use onnx or torch-export'):
        export(encoder('data2vec2/vitb16'), tmp_path / 'x', to)
    assert not (tmp_path / 'x').exists()


#: Run by a Python of its own, as by someone who has the folder and no mmmim.
READ = """
import sys, torch
from transformers import AutoImageProcessor, AutoModel
folder, options = sys.argv[1], eval(sys.argv[2])
model = AutoModel.from_pretrained(folder, **options).eval()
content = torch.load(sys.argv[3])
with torch.no_grad():
    found = [model(x).last_hidden_state for x in content['images']]
torch.save({'tokens': found, 'name': type(model).__name__, 'mmmim': 'mmmim' in sys.modules,
            'processor': AutoImageProcessor.from_pretrained(folder).image_mean}, sys.argv[4])
"""


@pytest.mark.parametrize('method', METHODS)
def test_huggingface(tmp_path, method):
    transformers = pytest.importorskip('transformers')
    extractor = encoder(method)
    use = export(extractor, tmp_path / 'x', 'huggingface')
    name = METHODS[method]
    own = name.startswith('Mmmim')
    assert ('trust_remote_code' in use) == (tmp_path / 'x' / 'modeling_mmmim_vit.py').exists() == own
    x = images(extractor)
    options = {'trust_remote_code': True} if own else {'add_pooling_layer': False}
    model, info = transformers.AutoModel.from_pretrained(tmp_path / 'x', **options, output_loading_info=True)
    assert type(model).__name__ == name
    assert not any(info[key] for key in ('missing_keys', 'unexpected_keys', 'mismatched_keys'))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x).last_hidden_state, tokens(extractor, x), **CLOSE)
        if own:  # of other sizes, too
            x = images(extractor, more=(1, -2))
            found = model(x, output_hidden_states=True)
            torch.testing.assert_close(found.last_hidden_state, tokens(extractor, x), **CLOSE)
            torch.testing.assert_close(found.hidden_states[-1][:, -1], extractor(x)[-1].raw[:, -1], **CLOSE)
    processor = json.loads((tmp_path / 'x' / 'preprocessor_config.json').read_text())
    assert processor['image_mean'] == pytest.approx([0.485, 0.456, 0.406], abs=1e-4)


def test_the_code_in_the_folder_needs_nothing_of_mmmim(tmp_path):
    pytest.importorskip('transformers')
    extractor = encoder('capi/vits14')
    export(extractor, tmp_path / 'x', 'huggingface')
    x = images(extractor)
    torch.save({'images': [x]}, tmp_path / 'in.pth')
    words = [str(tmp_path / 'x'), "{'trust_remote_code': True}", str(tmp_path / 'in.pth'), str(tmp_path / 'out.pth')]
    done = subprocess.run([sys.executable, '-c', READ, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / 'out.pth')
    assert (found['name'], found['mmmim']) == ('MmmimViTModel', False)
    torch.testing.assert_close(found['tokens'][0], tokens(extractor, x), **CLOSE)


# -------------------------------------------------------------------------------------------------------------- graphs

SHAPES = [(1, (0, 0)), (3, (1, -1))]


@pytest.mark.parametrize('method', ['capi/vits14', 'semantic_mim/beit_vitb16'])
def test_a_program_takes_any_batch_and_size(tmp_path, method):
    extractor = encoder(method, depth=1)
    export(extractor, tmp_path / 'x.pt2', 'torch-export')
    program = torch.export.load(tmp_path / 'x.pt2').module()
    for number, more in SHAPES:
        x = images(extractor, number, more)
        expected = extractor(x).tensors()
        found = program(x)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, **CLOSE)


@pytest.mark.parametrize(
    'method', ['capi/vits14', 'pilamim/vitb16', pytest.param('mae/vitb16', marks=pytest.mark.slow)]
)
def test_onnx(tmp_path, method):
    pytest.importorskip('onnxscript')
    runtime = pytest.importorskip('onnxruntime')
    extractor = encoder(method, depth=1)
    export(extractor, tmp_path / 'x.onnx', 'onnx')
    session = runtime.InferenceSession(tmp_path / 'x.onnx', providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    for number, more in SHAPES:
        x = images(extractor, number, more)
        expected = extractor(x).tensors()
        assert names == list(expected)
        for name, value in zip(names, session.run(None, {'images': x.numpy()}), strict=True):
            torch.testing.assert_close(torch.from_numpy(value), expected[name], **CLOSE)


def test_encoders_of_one_size_are_exported_at_it(tmp_path):
    arch = {'embed_dims': 16, 'num_layers': 2, 'num_heads': 2, 'feedforward_channels': 32}
    beit = {'type': 'mmmim.MMPretrainEncoder', 'name': 'BEiTViT', 'arch': arch, 'img_size': 32, 'patch_size': 8}
    extractor = scrambled(FeatureExtractor({'backbone': beit}))
    use = export(extractor, tmp_path / 'x.pt2', 'torch-export')
    assert 'of 32 x 32 pixels' in use
    x = images(extractor, 3)
    found = torch.export.load(tmp_path / 'x.pt2').module()(x)
    torch.testing.assert_close(found['patches'], extractor(x)[-1].patches, **CLOSE)


def test_the_extractor_itself_is_exported_and_traced():
    """Without a wrapper: features are a tree of tensors, and a trace gives a tuple of them."""
    extractor = encoder('capi/vits14', depth=1)
    x = images(extractor)
    batch = torch.export.Dim('batch', min=1, max=64)
    program = torch.export.export(extractor, (x,), dynamic_shapes={'images': {0: batch}})
    other = images(extractor, 5, seed=1)
    found, expected = program.module()(other), extractor(other)
    assert type(found) is type(expected)
    assert (found.grid, found[0].numbers) == (expected.grid, expected[0].numbers)
    for name in ('predicted', 'pooled', 'pooled_raw', 'registers', 'max'):
        torch.testing.assert_close(found.pool(name), expected.pool(name), **CLOSE)
    with pytest.warns(torch.jit.TracerWarning):
        traced = torch.jit.trace(extractor, x, check_trace=False)
    for one, two in zip(traced(other), expected.tensors().values(), strict=True):
        torch.testing.assert_close(one, two, **CLOSE)


# --------------------------------------------------------------------------------------------------------- wrong words


def test_wrong_words_are_one_sentence(tmp_path, capsys):
    (tmp_path / 'full').mkdir()
    (tmp_path / 'full' / 'mine.txt').write_text('kept')
    source = save_model(tmp_path / 'x.pth', capi_config())
    for out, to, message in (
        ('y.onnx', 'backbone', 'writes a file *.pth'),
        ('full', 'huggingface', 'is there already and not empty'),
        ('x.pth', 'huggingface', 'is there already'),
        ('y', 'timm', 'which has rotary positions'),
    ):
        with pytest.raises(SystemExit, match='2'):
            main([source, str(tmp_path / out), '--to', to])
        assert message in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {'full', 'x.pth'}
    for words in (['mae/small'], ['timm:vit_tiny_patch16_224=random']):
        with pytest.raises(SystemExit, match='2'):
            main([*words, str(tmp_path / 'y.pth'), '--to', 'backbone'])
        assert 'stands for random weights' in capsys.readouterr().err
    foreign = FeatureExtractor({'backbone': ENCODERS['timm']})
    with pytest.raises(InputError, match=r'exports a mmmim\.ViT, and'):
        export(foreign, tmp_path / 'z', 'timm')
