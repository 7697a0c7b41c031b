"""Published weights by name, from a server of this machine."""

import hashlib
import io
import json
import logging
import os
import subprocess
import sys

import pytest
import torch

import mmmim
from mmmim.cli.main import main
from mmmim.config import downloads
from mmmim.config.downloads import LocalWeights
from mmmim.config.weights import read_weights
from mmmim.converters import published as by_name
from mmmim.converters.published import find_weights
from mmmim.converters.registry import CONVERTERS
from mmmim.models.tokenizers import DalleTokenizer
from mmmim.utils import InputError
from tests.paths import ROOT
from tests.test_converters.samples import SAMPLES
from tests.toys import capi_config, save_model
from tests.weights_server import Row, publish, serving

MEAN, STD = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)


def saved(content):
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def row(name, server, file='a.pth', **more):
    more = {'layout': 'mae', 'mean': MEAN, 'std': STD, **more}
    url = server.url(file)
    return Row(name=name, what='toy', source='https://page', licence='non-commercial', file=file, url=url, **more)


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv('MMMIM_HOME', str(tmp_path / 'home'))
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    with serving(monkeypatch) as server:
        server.files['a.pth'] = saved(SAMPLES['mae'].file(SAMPLES['mae'].weights()))
        yield server


@pytest.fixture
def toy(server, monkeypatch):
    publish(monkeypatch, row('toy', server))
    return server


def test_a_name_is_downloaded_once_converted_and_used(toy, tmp_path, capsys):
    extractor = mmmim.get_model('toy')
    sample = SAMPLES['mae']
    expected = CONVERTERS['mae'].convert(sample.file(sample.weights()), 'x', **sample.options)['state_dict']
    state = {f'backbone.{key}': value for key, value in extractor.backbone.state_dict().items()}
    assert all(torch.equal(value, state[key]) for key, value in expected.items() if key in state)
    assert tuple(extractor.preprocessor.mean.flatten().tolist()) == MEAN
    assert tuple(extractor.preprocessor.std.flatten().tolist()) == STD
    assert 'toy: toy, https://page. Licence: non-commercial.' in capsys.readouterr().err

    path = find_weights('toy')[0]
    assert path.startswith(str(tmp_path / 'home/weights/toy-'))
    (tmp_path / 'home/weights/a.pth').unlink()  # what was made of it is enough
    toy.files.clear()
    mmmim.get_model('toy')
    assert len(toy.asked) == 1
    assert 'Licence' not in capsys.readouterr().err
    assert mmmim.list_models(pretrained=True) == ['toy']


def test_a_new_converter_converts_anew(toy, monkeypatch):
    first = find_weights('toy')[0]
    monkeypatch.setitem(CONVERTERS, 'mae', by_name.CONVERTERS['mae'].__class__('mae', '', '', version=2))
    assert find_weights('toy')[0] != first
    assert len(toy.asked) == 1


@pytest.mark.parametrize('made', [False, True], ids=['published', 'converted'])
def test_a_file_that_changed_is_named_and_refused(toy, tmp_path, made):
    path = find_weights('toy')[0] if made else str(LocalWeights(read_weights().weights['toy']).fetch())
    with open(path, 'r+b') as file:
        file.seek(2000)
        file.write(b'changed')
    with pytest.raises(InputError, match=rf'{path} has changed since it was .*Delete it'):
        mmmim.get_model('toy')
    os.remove(path)
    mmmim.get_model('toy')


def test_the_hash_that_the_publisher_states(server, monkeypatch, tmp_path):
    found = hashlib.sha256(server.files['a.pth']).hexdigest()
    publish(monkeypatch, row('good', server, sha256=found[:8]), row('bad', server, 'b.pth', sha256='01234567'))
    server.files['b.pth'] = server.files['a.pth']
    mmmim.get_model('good')
    with pytest.raises(InputError, match=rf'b\.pth\.partial is not the file of bad .*{found}.* begins with 01234567'):
        mmmim.get_model('bad')
    folder = tmp_path / 'home/weights'
    assert not [path for path in folder.iterdir() if path.name.startswith('b.pth') and path.suffix != '.lock']
    (folder / 'b.pth').write_bytes(server.files['a.pth'])  # put there by hand: the same
    with pytest.raises(InputError, match='begins with 01234567'):
        mmmim.get_model('bad')


def test_without_network_the_file_and_its_place_are_named(toy, tmp_path, monkeypatch):
    content = toy.files.pop('a.pth')
    place = tmp_path / 'home/weights/a.pth'
    with pytest.raises(InputError, match=rf'404 .* toy needs the file http:.*a\.pth: .* put it at {place}'):
        mmmim.get_model('toy')
    by_hand = Row('drive', 'toy', 'https://drive', 'none', 'a.pth', layout='mae', mean=MEAN, std=STD)
    publish(monkeypatch, by_hand)
    with pytest.raises(InputError, match=rf'open https://drive in a browser, .* put it at {place}\. Licence: none'):
        mmmim.get_model('drive')
    place.write_bytes(content)
    mmmim.get_model('drive')
    assert json.loads(place.with_name('a.pth.mmmim.json').read_text())['sha256'] == hashlib.sha256(content).hexdigest()


def test_a_file_with_python_objects_needs_a_word(toy):
    toy.files['a.pth'] = saved({'args': logging.Formatter(), 'model': SAMPLES['mae'].weights()})
    with pytest.raises(InputError, match=r'a\.pth contains Python objects .*trust_checkpoint=True'):
        mmmim.get_model('toy')
    mmmim.get_model('toy', trust_checkpoint=True)


def test_other_statistics_than_those_of_the_file_are_refused(server, monkeypatch):
    weights = SAMPLES['mae of mmpretrain'].weights()
    weights |= {f'data_preprocessor.{key}': torch.tensor(v).view(3, 1, 1) for key, v in (('mean', MEAN), ('std', STD))}
    server.files['a.pth'] = saved(weights)
    publish(monkeypatch, row('same', server), row('other', server, std=MEAN))
    mmmim.get_model('same')
    with pytest.raises(InputError, match=r'a\.pth has images of the std \[4\.0, 5\.0, 6\.0\], and other should have'):
        mmmim.get_model('other')


def test_several_processes_download_once(server, tmp_path, monkeypatch):
    """Three of a run on one machine and one of another run start together; the first of the run downloads."""
    code = """
import sys
from mmmim.config import downloads
from mmmim.utils import download
from tests.toys import capi_config, save_model
from tests.weights_server import Row
download.SCHEMES, downloads.LOOK = ('http',), 0.05
row = Row('toy', 'toy', 'https://page', 'none', 'a.pth', url=sys.argv[1], layout='mae')
print(downloads.LocalWeights(row).fetch())
"""
    environments = [{**os.environ, 'PYTHONPATH': str(ROOT), 'no_proxy': '*', **more}
                    for more in ({'LOCAL_RANK': '1'}, {'LOCAL_RANK': '2'}, {'LOCAL_RANK': '0'}, {})]  # fmt: skip
    words = [sys.executable, '-c', code, server.url('a.pth')]
    started = [
        subprocess.Popen(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for env in environments
    ]
    done = [process.communicate(timeout=120) for process in started]
    assert [out.strip() for out, _ in done] == [str(tmp_path / 'home/weights/a.pth')] * 4, done
    assert len(server.asked) == 1
    assert 'Licence' not in done[0][1] + done[1][1]


def test_a_process_whose_first_does_nothing_gives_up(toy, monkeypatch):
    monkeypatch.setenv('LOCAL_RANK', '1')
    monkeypatch.setattr(downloads, 'IDLE', 0.0)
    monkeypatch.setattr(downloads, 'LOOK', 0.01)
    with pytest.raises(InputError, match='The first process on this machine has not brought'):
        mmmim.get_model('toy')
    assert toy.asked == []


def test_tools_take_names(toy, tmp_path, monkeypatch, capsys, tool):
    def run(*words):
        monkeypatch.setattr(sys, 'argv', ['mmmim'])
        main(words)
        return capsys.readouterr().out

    (path,) = run('download', 'toy').split()
    assert path == find_weights('toy')[0]
    assert 'toy  toy; licence: non-commercial; http://127' in run('list', '--pretrained', 'to*')
    run('convert', 'toy', str(tmp_path / 'c.pth'))
    assert tuple(mmmim.get_model(tmp_path / 'c.pth').preprocessor.mean.flatten().tolist()) == MEAN
    from mmengine import Config

    from mmmim.apis.downstream import apply_pretrained
    from mmmim.benchmark.encoders import read_encoders
    from mmmim.features import PretrainedBackbone

    cfg = Config({'model': {'backbone': {'type': 'mmmim.PretrainedBackbone', 'checkpoint': 'pretrained:checkpoint'}}})
    apply_pretrained(cfg, 'toy')
    assert cfg.model.backbone.checkpoint == path
    cfg.model.backbone = {'type': 'mmmim.PretrainedBackbone', 'checkpoint': 'toy'}
    apply_pretrained(cfg, None)
    assert (cfg.model.backbone.checkpoint, cfg.model.backbone.encoder.type) == (path, 'mmmim.ViT')
    PretrainedBackbone('toy')
    twin, encoder = read_encoders(['toy'])
    assert (twin.label, encoder.label, encoder.source) == ('random weights, as toy', 'toy', path)
    for word in ('download', 'list --pretrained'):
        with pytest.raises(SystemExit):
            run(*word.split(), 'toi')
        assert 'did you mean toy?' in capsys.readouterr().err


def test_tokenizers_are_named_in_configs(server, monkeypatch):
    tokenizer = DalleTokenizer(num_tokens=8, hidden_dim=4, untrained=True)
    server.files['a.pth'] = saved(tokenizer.encoder.state_dict())
    publish(
        monkeypatch,
        row('dalle', server, layout=None, tokenizer='mmmim.DalleTokenizer'),
        row('vqkd', server, layout=None, tokenizer='mmmim.VQKDTokenizer'),
    )
    loaded = DalleTokenizer(weights='dalle', num_tokens=8, hidden_dim=4)
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), tokenizer.parameters(), strict=True))
    with pytest.raises(InputError, match=r"is toy: use 'dalle_encoder'"):
        DalleTokenizer(weights='vqkd', num_tokens=8, hidden_dim=4)
    with pytest.raises(
        InputError, match=r"dalle is no encoder but toy: .*tokenizer=dict\(type='mmmim\.DalleTokenizer'"
    ):
        mmmim.get_model('dalle')


def test_a_file_names_no_weights(toy, tmp_path):
    """A checkpoint that names published weights does not have them downloaded."""
    model = capi_config()
    save_model(tmp_path / 'a.pth', model)
    checkpoint = torch.load(tmp_path / 'a.pth', weights_only=True)
    for backbone in (
        {'type': 'mmmim.PretrainedBackbone', 'checkpoint': 'toy'},
        {'type': 'mmmim.TimmEncoder', 'name': 'vit_tiny_patch16_224', 'weights': 'toy'},
    ):
        checkpoint['mmmim']['model'] = {**model, 'backbone': backbone}
        torch.save(checkpoint, tmp_path / 'b.pth')
        with pytest.raises(
            InputError, match=r'a file never says what is read|a model trained on a pre-trained encoder'
        ):
            mmmim.get_model(tmp_path / 'b.pth')
    assert toy.asked == []


def test_a_config_is_random_weights_with_a_warning_and_typos_are_explained(monkeypatch):
    said = []
    monkeypatch.setattr('mmmim.apis.models.print_log', lambda *words: said.append(words))
    mmmim.get_model('mae/small')
    assert said == [('mae/small names a config: its weights are RANDOM.', 'current', logging.WARNING)]
    with pytest.raises(InputError, match='Did you mean capi_vitl14_lvd, '):
        mmmim.get_model('capi_vitl14_ldv')
    assert not any('ablations' in name for name in mmmim.list_models())
    ablations = mmmim.list_models('capi/ablations/*')
    assert ablations
    assert set(ablations) < set(mmmim.list_models(ablations=True))


def test_the_table(monkeypatch):
    """Every row is of a layout, a model or a tokenizer that exists, and names of OpenMMLab's files are their hashes."""
    from mmmim.apis.models import encoder_config
    from mmmim.registry import MODELS

    monkeypatch.delenv('MMMIM_HOME', raising=False)
    rows = read_weights().weights
    assert len({row.file for row in rows.values()}) == len(rows)
    assert {f'capi_vitl14_{data}' for data in ('lvd', 'i22k', 'in1k', 'p205')} <= set(
        mmmim.list_models(pretrained=True)
    )
    for each in rows.values():
        if each.layout is not None:
            assert set(each.options) <= set(CONVERTERS[each.layout].options)
        elif each.tokenizer is not None:
            assert MODELS.get(each.tokenizer) is not None
        else:
            with torch.device('meta'):
                built = MODELS.build(encoder_config(each.encoder))
            assert (tuple(built.mean), tuple(built.std)) == (each.mean, each.std)
        if each.config is not None:
            assert each.config in mmmim.list_models()
        if 'openmmlab' in (each.url or '') and each.tokenizer is None:
            assert each.file.removesuffix('.pth').rpartition('-')[2] == each.sha256
        assert 'non-commercial' in each.licence or '/ijepa/' not in each.source + '/'
