"""Files that are damaged, hostile, no plain data, or written by wrappers, and weights that are wrong."""

import argparse
import os
import pickle
import runpy
import subprocess
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import mmmim
from mmmim.checkpoints import check_state_dict, load_checkpoint_file, load_state_dict, save_checkpoint_file, trusting
from mmmim.checkpoints.layouts import describe_layout
from mmmim.checkpoints.reader import unwrapped
from mmmim.models.layers.positions import PositionTable
from mmmim.utils import InputError


class Call:
    """Pickles as a call of a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


CALLS = {
    'system': (os.system, 'touch hit'),
    'Popen': (subprocess.Popen, ['touch', 'hit']),
    'run_path': (runpy.run_path, 'evil.py'),
    'eval': (eval, "open('hit', 'w')"),
    'exec': (exec, "open('hit', 'w')"),
    '__import__': (__import__, 'evil'),
    'open': (open, 'hit', 'w'),
    'remove': (os.remove, 'kept'),
}


def write(content, kind, path):
    if kind in ('zip', 'legacy'):
        torch.save(content, path, _use_new_zipfile_serialization=kind == 'zip')
    else:
        Path(path).write_bytes(pickle.dumps(content, protocol=int(kind)))


@pytest.mark.parametrize('kind', ['zip', 'legacy', '0', '4'])
@pytest.mark.parametrize('name', CALLS)
def test_attacks_are_called_hostile(tmp_path, monkeypatch, name, kind):
    monkeypatch.chdir(tmp_path)
    Path('kept').write_text('')
    Path('evil.py').write_text("open('hit', 'w')")
    write({'state_dict': {'a': Call(*CALLS[name]), 'b': torch.zeros(1)}}, kind, 'x.pth')
    with pytest.raises(InputError, match=rf'^x\.pth is hostile: .*{name}.* Nothing of it was run') as error:
        load_checkpoint_file('x.pth')
    assert not any(word in str(error.value) for word in ('download', 'trust', 'damaged', '\n'))
    assert sorted(os.listdir()) == ['evil.py', 'kept', 'x.pth']


@pytest.mark.parametrize('kind', ['zip', 'legacy', '2'])
def test_objects_are_named_with_the_ways_to_trust_them(tmp_path, kind):
    path = tmp_path / 'x.pth'
    write({'args': argparse.Namespace(lr=1.0)}, kind, path)
    with pytest.raises(InputError) as error:
        load_checkpoint_file(path)
    for text in ('argparse.Namespace', '--trust-checkpoint', 'trust_checkpoint=True', 'was not read'):
        assert text in str(error.value)
    if kind in ('zip', 'legacy'):
        assert load_checkpoint_file(path, trust=True)['args'].lr == 1.0
        with trusting(True):
            assert load_checkpoint_file(path)['args'].lr == 1.0
        with pytest.raises(InputError, match='Namespace'):
            load_checkpoint_file(path)


def test_code_in_an_archive_is_refused(tmp_path):
    torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / 'x.pth'))
    for trust in (False, True):
        with pytest.raises(InputError, match='TorchScript archive, which contains code'):
            load_checkpoint_file(tmp_path / 'x.pth', trust=trust)


@pytest.mark.parametrize('bit', [0, 7])
@pytest.mark.parametrize('where', [0.0, 0.4, 1.0])
def test_one_flipped_bit_is_noticed(tmp_path, where, bit):
    path, values = tmp_path / 'x.pth', torch.arange(1.0, 20_001.0)
    save_checkpoint_file({'state_dict': {'a': values, 'b': torch.zeros(3)}}, path)
    content = bytearray(path.read_bytes())
    start = bytes(content).index(values.numpy().tobytes())
    content[start + int(where * (values.nbytes - 1))] ^= 1 << bit
    path.write_bytes(content)
    flipped = torch.load(path, weights_only=True)['state_dict']['a']  # torch alone does not notice
    assert not torch.equal(flipped, values)
    with pytest.raises(InputError, match=r'x\.pth is damaged: \S*data/\d+ in it does not fit its checksum'):
        load_checkpoint_file(path)


def test_archives_that_torch_does_not_write_are_refused(tmp_path):
    save_checkpoint_file({'a': torch.zeros(1000)}, tmp_path / 'a.pth')
    with zipfile.ZipFile(tmp_path / 'a.pth') as source:
        members = [(member, source.read(member)) for member in source.namelist()]
    for name, method, twice in (('small', zipfile.ZIP_DEFLATED, False), ('twice', zipfile.ZIP_STORED, True)):
        with zipfile.ZipFile(tmp_path / name, 'w', method) as target:
            for member, content in members + (members[:1] if twice else []):
                target.writestr(member, content)
        with pytest.raises(InputError, match='compressed or there twice'):
            load_checkpoint_file(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='no named pipes')
def test_pipes_and_odd_names_do_not_block(tmp_path):
    os.mkfifo(tmp_path / 'x.pth')
    with pytest.raises(InputError, match='no regular file'):
        load_checkpoint_file(tmp_path / 'x.pth')
    for name in ('a' * 300, 'a\0b'):
        with pytest.raises(InputError, match=r'cannot be read|does not exist'):
            load_checkpoint_file(name)


def test_structures_without_an_end_are_refused(tmp_path):
    around, wide = [], [0]
    around.append(around)
    for _ in range(40):
        wide = [wide] * 10
    for content in ({'a': around}, {'a': wide}):
        torch.save(content, tmp_path / 'x.pth')
        with pytest.raises(InputError, match='nested without end'):
            load_checkpoint_file(tmp_path / 'x.pth')


@pytest.mark.parametrize(
    ('prefix', 'key'), [('module.', 'model'), ('_orig_mod.module.', 'state_dict'), ('module.', None)]
)
def test_prefixes_of_wrappers_are_gone(tmp_path, prefix, key):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    saved = model.state_dict(prefix=prefix)
    torch.save({key: saved, 'iter': 3} if key else saved, tmp_path / 'x.pth')
    loaded = load_checkpoint_file(tmp_path / 'x.pth')
    weights = loaded[key] if key else loaded
    assert list(weights) == list(model.state_dict())
    assert weights._metadata['1']['version'] == 2
    load_state_dict(model, weights, 'x.pth')


def test_names_that_only_look_like_prefixes_stay():
    weights = {'module.a': torch.zeros(1), 'b': torch.zeros(1)}
    assert unwrapped(weights, 'x') is weights
    assert list(unwrapped({'a._orig_mod.b': torch.zeros(1)}, 'x')) == ['a.b']
    with pytest.raises(InputError, match='holds weights twice'):
        unwrapped({'a.b': torch.zeros(1), 'a._orig_mod.b': torch.zeros(1)}, 'x')


WRONG = {
    'NaN': (torch.tensor([1.0, float('nan')]), 'weight holds NaN or infinite values'),
    'infinite': (torch.tensor([1.0, float('-inf')]), 'weight holds NaN or infinite values'),
    'NaN in fp8': (torch.tensor([1.0, float('nan')]).to(torch.float8_e5m2), 'holds NaN'),
    'too large': (torch.tensor([1.0, -1e300], dtype=torch.float64), r'too large for torch\.float32'),
    'integers': (torch.ones(2, dtype=torch.long), 'holds integer numbers and the model has floating point ones'),
    'booleans': (torch.ones(2, dtype=torch.bool), 'holds boolean numbers'),
    'complex': (torch.ones(2, dtype=torch.complex64), 'holds complex numbers'),
    'sparse': (torch.ones(2).to_sparse(), 'is no dense tensor'),
    'repeated': (torch.ones(1).expand(2), 'has values for a part of it only'),
    'meta': (torch.ones(2, device='meta'), 'has no values'),
    'list': ([1.0, 2.0], '(is a list, no tensor|weight: list)'),
}


@pytest.mark.parametrize('name', WRONG)
def test_wrong_values_are_refused_and_nothing_is_loaded(name):
    value, message = WRONG[name]
    module = nn.LayerNorm(2, bias=False)
    for use in (load_state_dict, check_state_dict):
        with pytest.raises(InputError, match=rf'^x\.pth .*{message}'):
            use(module, {'weight': value}, 'x.pth')
    assert module.weight.tolist() == [1, 1]


def test_right_values_of_another_precision_are_loaded():
    module = nn.BatchNorm1d(2)
    module.register_buffer('mask', torch.tensor([0.0, -torch.inf]))  # a model that has infinite values may load them
    for dtype in (torch.bfloat16, torch.float64):
        values = torch.tensor([2.0, -torch.inf], dtype=dtype)
        count = torch.tensor(5, dtype=torch.int)
        state = {**module.state_dict(), 'weight': values.abs().nan_to_num(posinf=3), 'num_batches_tracked': count}
        load_state_dict(module, {**state, 'mask': values}, 'x.pth')
    assert (module.weight.tolist(), module.mask.tolist()) == ([2, 3], [2, -torch.inf])
    assert (module.mask.dtype, module.weight.dtype) == (torch.float32, torch.float32)


def test_tables_of_sines_are_those_of_the_model_and_learned_ones_must_fit():
    small, large = PositionTable((2, 2), 8, num_extra=1), PositionTable((3, 4), 8, num_extra=1)
    nn.init.ones_(small.extra)
    before = large.weight.clone()
    check_state_dict(large, small.state_dict(), 'x.pth')
    load_state_dict(large, small.state_dict(), 'x.pth')
    assert torch.equal(large.weight, before)
    assert large.extra.eq(1).all()
    with pytest.raises(InputError, match='weight holds NaN'):
        load_state_dict(large, {**small.state_dict(), 'weight': torch.full((4, 8), torch.nan)}, 'x.pth')
    learned = PositionTable((2, 2), 8, learnable=True), PositionTable((3, 4), 8, learnable=True)
    with pytest.raises(InputError, match=r'weight: \[4, 8\], the model has \[12, 8\]'):
        load_state_dict(learned[1], learned[0].state_dict(), 'x.pth')


@pytest.mark.parametrize(
    ('names', 'words'),
    [
        (['vit.encoder.layer.0.attention.attention.query.weight'], 'transformers of Hugging Face'),
        (['decoder_pos_embed', 'blocks.0.attn.qkv.weight'], 'mae_to_mmmim.py'),
        (['backbone.layers.0.ln1.weight'], 'mmpretrain:NAME=FILE'),
        (['blocks.0.attn.qkv.weight'], 'timm:NAME=FILE'),
        (['a', 'b'], 'Its names are a, b'),
        ([], 'empty'),
    ],
)
def test_unknown_layouts_are_described(names, words):
    for key in (None, 'state_dict', 'model'):
        weights = dict.fromkeys(names, torch.zeros(1))
        assert words in describe_layout({key: weights} if key and names else weights)
    assert 'ijepa_to_mmmim.py' in describe_layout({'encoder': {}, 'predictor': {}})


def test_names_in_files_are_one_harmless_line(tmp_path):
    """A name with a newline or a command for the terminal forges no line of a log."""
    odd = 'a\n2026 - INFO - fine\x1b[2J\u202e'
    torch.save({'state_dict': {odd: torch.zeros(1)}, 'mmmim': {'model': {'backbone': {odd: {'type': odd}}}}},
               tmp_path / 'x.pth')  # fmt: skip
    messages = []
    for use in (
        lambda: check_state_dict(nn.Linear(1, 1), load_checkpoint_file(tmp_path / 'x.pth')['state_dict'], 'x.pth'),
        lambda: load_state_dict(nn.Linear(1, 1), {odd: torch.tensor([torch.nan])}, 'x.pth'),
        lambda: mmmim.get_model(tmp_path / 'x.pth'),
    ):
        with pytest.raises(InputError) as error:
            use()
        messages.append(str(error.value))
    messages.append(describe_layout({odd: torch.zeros(1)}))
    assert all(message.isprintable() for message in messages)
