import enum
import errno
import os
import pickle
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer
from torch import nn

from mmmim.checkpoints import check_state_dict, load_checkpoint_file, load_state_dict, save_checkpoint_file
from mmmim.utils import InputError
from mmmim.utils.atomic import remove_leftovers
from mmmim.utils.plain import to_plain


def test_round_trip(tmp_path):
    path = tmp_path / 'new' / 'a.pth'
    save_checkpoint_file({'x': torch.arange(3), 'n': 1}, path)
    loaded = load_checkpoint_file(path)
    assert loaded['n'] == 1
    assert torch.equal(loaded['x'], torch.arange(3))
    assert os.listdir(path.parent) == ['a.pth']


class Full:
    """Stands in for a file on a full disk."""

    def __init__(self, error):
        self.error = error

    def __call__(self, *args, **kwargs):
        raise self.error


@pytest.mark.parametrize('where', ['torch.save', 'os.replace', 'os.fsync'])
def test_full_disk_keeps_the_old_file(tmp_path, monkeypatch, where):
    path = tmp_path / 'a.pth'
    save_checkpoint_file({'n': 1}, path)
    with monkeypatch.context() as patch:
        patch.setattr(where, Full(OSError(errno.ENOSPC, 'No space left on device')))
        with pytest.raises(InputError, match=r'a\.pth could not be written: no space left.*previous a\.pth is intact'):
            save_checkpoint_file({'n': 2}, path)
    assert load_checkpoint_file(path) == {'n': 1}
    assert os.listdir(tmp_path) == ['a.pth']


@pytest.mark.parametrize('error', [RuntimeError('bug'), KeyboardInterrupt()])
def test_interrupted_save_keeps_the_old_file(tmp_path, monkeypatch, error):
    path = tmp_path / 'a.pth'
    save_checkpoint_file({'n': 1}, path)
    with monkeypatch.context() as patch:
        patch.setattr(torch, 'save', Full(error))
        with pytest.raises(type(error)):
            save_checkpoint_file({'n': 2}, path)
    assert load_checkpoint_file(path) == {'n': 1}
    assert os.listdir(tmp_path) == ['a.pth']


def test_killed_save_keeps_the_old_file_and_is_cleaned_up(tmp_path):
    path = tmp_path / 'a.pth'
    save_checkpoint_file({'n': 1}, path)
    child = os.fork()
    if child == 0:  # dies between the write and the rename
        os.replace = lambda *args: os._exit(9)
        save_checkpoint_file({'n': 2}, path)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert load_checkpoint_file(path) == {'n': 1}
    mine = ['a.pth.tmp', 'a.pth.1-zzzzzzzz.tmp', 'b.txt.1-00000000.tmp']  # not names that are cleaned up
    for name in mine:
        (tmp_path / name).write_text('mine')
    assert len(os.listdir(tmp_path)) == 2 + len(mine)
    assert len(remove_leftovers(tmp_path, 'a.pth'.__eq__)) == 1
    for name in mine:
        (tmp_path / name).unlink()
    save_checkpoint_file({'n': 3}, path)
    assert load_checkpoint_file(path) == {'n': 3}
    assert os.listdir(tmp_path) == ['a.pth']


def test_unwritable_folder(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(InputError, match='could not be written'):
        save_checkpoint_file({}, tmp_path / 'file' / 'a.pth')


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'damaged, cut short'),
        (b'hello world', 'damaged, cut short'),
        (pickle.dumps({'a': 1}, protocol=4)[:-3], 'damaged, cut short'),
    ],
)
def test_not_a_checkpoint(tmp_path, content, message):
    path = tmp_path / 'a.pth'
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load_checkpoint_file(path)


@pytest.mark.parametrize('keep', [0.1, 0.5, 0.99])
def test_truncated(tmp_path, keep):
    path = tmp_path / 'a.pth'
    save_checkpoint_file({'x': torch.zeros(10_000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(InputError, match=r'a\.pth is damaged, cut short'):
        load_checkpoint_file(path)


def test_missing_folder_url_and_type(tmp_path):
    with pytest.raises(InputError, match='does not exist'):
        load_checkpoint_file(tmp_path / 'none.pth')
    with pytest.raises(InputError, match='is a folder'):
        load_checkpoint_file(tmp_path)
    for url in ('https://example.com/a.pth', 'open-mmlab://resnet50', 's3://bucket/a.pth'):
        with pytest.raises(InputError, match='local files only'):
            load_checkpoint_file(url)
    torch.save(torch.zeros(2), tmp_path / 'tensor.pth')
    with pytest.raises(InputError, match='holds a Tensor'):
        load_checkpoint_file(tmp_path / 'tensor.pth')


def test_objects_need_trust(tmp_path):
    path = tmp_path / 'a.pth'
    torch.save({'history': HistoryBuffer([1.0], [1])}, path)
    with pytest.raises(InputError, match=r'HistoryBuffer.*trust_checkpoint=True'):
        load_checkpoint_file(path)
    assert isinstance(load_checkpoint_file(path, trust=True)['history'], HistoryBuffer)


def test_check_state_dict():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    check_state_dict(module, module.state_dict(), 'x.pth')
    state = dict(module.state_dict())
    del state['0.bias']
    state['0.weight'] = torch.zeros(3, 4)
    state['head.weight'] = torch.zeros(1)
    with pytest.raises(InputError) as error:
        check_state_dict(module, state, 'x.pth')
    for text in ('x.pth', '1 missing (0.bias)', '1 unexpected (head.weight)', '0.weight: [3, 4], the model has [3, 2]'):
        assert text in str(error.value)
    with pytest.raises(InputError, match='1 missing'):
        load_state_dict(module, state, 'x.pth')


def test_only_some_keys_are_named():
    with pytest.raises(InputError, match=r'7 unexpected \(a0, a1, a2, a3, a4, \.\.\.\)'):
        check_state_dict(nn.Identity(), {f'a{i}': torch.zeros(1) for i in range(7)}, 'x.pth')


def test_load_hooks_may_adapt_keys():
    module = nn.Linear(2, 2)

    def rename(state_dict, *args):
        state_dict['weight'] = state_dict.pop('old_weight')

    module._register_load_state_dict_pre_hook(rename)
    load_state_dict(module, {'old_weight': torch.ones(2, 2), 'bias': torch.zeros(2)}, 'x.pth')
    assert torch.equal(module.weight, torch.ones(2, 2))


class Colour(enum.IntEnum):
    RED = 3


def test_to_plain(tmp_path):
    left_out = []
    plain = to_plain(
        {
            'cfg': ConfigDict(type='A', size=(1, 2), nested=[{'a': None}]),
            'numpy': np.arange(4).reshape(2, 2),
            'number': np.float32(0.5),
            'flag': np.bool_(True),
            'path': Path('/a/b'),
            'ids': deque([1, 2]),
            'names': {'x'},
            'colour': Colour.RED,
            'class': nn.Linear,
            'tensor': torch.ones(2, requires_grad=True),
            'function': print,
            'inside': [1, object(), 2],
            np.int64(7): True,
        },
        left_out,
    )
    assert left_out == ['function (builtin_function_or_method)', 'inside.1 (object)']
    torch.save(plain, tmp_path / 'a.pth')
    loaded = torch.load(tmp_path / 'a.pth', weights_only=True)
    assert loaded.pop('tensor').tolist() == [1, 1]
    assert loaded == {
        'cfg': {'type': 'A', 'size': (1, 2), 'nested': [{'a': None}]},
        'numpy': [[0, 1], [2, 3]],
        'number': 0.5,
        'flag': True,
        'path': '/a/b',
        'ids': [1, 2],
        'names': ['x'],
        'colour': 3,
        'class': 'torch.nn.modules.linear.Linear',
        'inside': [1, 2],
        7: True,
    }
    assert type(loaded['colour']) is int
