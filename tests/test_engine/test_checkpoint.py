"""Files of checkpoints: whole or as they were, plain data, and what does not fit a model."""

import enum
import errno
import os
import pickle
from collections import deque
from pathlib import Path
from unittest.mock import Mock

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


@pytest.fixture
def path(tmp_path):
    """A checkpoint in a folder that was made for it."""
    save_checkpoint_file({'x': torch.arange(10_000), 'n': 1}, tmp_path / 'new/a.pth')
    return tmp_path / 'new/a.pth'


def assert_as_it_was(path):
    loaded = load_checkpoint_file(path)
    assert loaded['n'] == 1
    assert torch.equal(loaded['x'], torch.arange(10_000))


FULL = OSError(errno.ENOSPC, 'No space left on device')


@pytest.mark.parametrize(
    ('where', 'error', 'expected', 'message'),
    [
        ('torch.save', FULL, InputError, r'a\.pth could not be written: no space left.*previous a\.pth is intact'),
        ('os.fsync', FULL, InputError, 'no space left'),
        ('os.replace', FULL, InputError, 'no space left'),
        ('torch.save', RuntimeError('bug'), RuntimeError, 'bug'),
        ('torch.save', KeyboardInterrupt(), KeyboardInterrupt, None),
    ],
)
def test_full_disk_keeps_the_old_file(path, monkeypatch, where, error, expected, message):
    with monkeypatch.context() as patch:
        patch.setattr(where, Mock(side_effect=error))
        with pytest.raises(expected, match=message):
            save_checkpoint_file({'n': 2}, path)
    assert_as_it_was(path)
    assert os.listdir(path.parent) == ['a.pth']


def test_killed_save_keeps_the_old_file_and_is_cleaned_up(path):
    child = os.fork()
    if child == 0:  # dies between the write and the rename
        os.replace = lambda *args: os._exit(9)
        save_checkpoint_file({'n': 2}, path)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert_as_it_was(path)
    mine = {'a.pth.tmp', 'a.pth.1-zzzzzzzz.tmp', 'b.txt.1-00000000.tmp'}  # not names that are cleaned up
    for name in mine:
        (path.parent / name).write_text('mine')
    (left,) = set(os.listdir(path.parent)) - mine - {'a.pth'}
    assert remove_leftovers(path.parent, 'a.pth'.__eq__) == [left]
    assert set(os.listdir(path.parent)) == mine | {'a.pth'}
    save_checkpoint_file({'n': 3}, path)
    assert load_checkpoint_file(path) == {'n': 3}


def test_what_is_no_checkpoint(path):
    whole = path.read_bytes()
    cut = [whole[: int(len(whole) * share)] for share in (0.1, 0.5, 0.99)]
    for content in (b'', b'hello world', pickle.dumps({'a': 1}, protocol=4)[:-3], *cut):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r'a\.pth is damaged, cut short'):
            load_checkpoint_file(path)
    torch.save(torch.zeros(2), path)
    others = {path: 'holds a Tensor', path.parent / 'none.pth': 'does not exist', path.parent: 'is a folder'}
    urls = ('https://example.com/a.pth', 'open-mmlab://resnet50', 's3://bucket/a.pth')
    for file, message in (others | dict.fromkeys(urls, 'local files only')).items():
        with pytest.raises(InputError, match=message):
            load_checkpoint_file(file)


def test_objects_need_trust(path):
    torch.save({'history': HistoryBuffer([1.0], [1])}, path)
    with pytest.raises(InputError, match=r'HistoryBuffer.*trust_checkpoint=True'):
        load_checkpoint_file(path)
    assert isinstance(load_checkpoint_file(path, trust=True)['history'], HistoryBuffer)


def test_weights_that_do_not_fit_are_named():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    check_state_dict(module, module.state_dict(), 'x.pth')
    old = dict(module.state_dict())
    old['old'] = old.pop('1.bias')
    hook = module._register_load_state_dict_pre_hook(lambda state, *args: state.update({'1.bias': state.pop('old')}))
    load_state_dict(module, old, 'x.pth')  # hooks may adapt names
    hook.remove()
    state = dict(module.state_dict())
    del state['0.bias']
    state['0.weight'] = torch.zeros(3, 4)
    state['head.weight'] = torch.zeros(1)
    with pytest.raises(InputError) as error:
        load_state_dict(module, state, 'x.pth')
    for text in ('x.pth', '1 missing (0.bias)', '1 unexpected (head.weight)', '0.weight: [3, 4], the model has [3, 2]'):
        assert text in str(error.value)
    with pytest.raises(InputError, match=r'7 unexpected \(a0, a1, a2, a3, a4, \.\.\.\)'):
        check_state_dict(nn.Identity(), {f'a{i}': torch.zeros(1) for i in range(7)}, 'x.pth')


class Colour(enum.IntEnum):
    RED = 3


PLAIN = {
    'cfg': (ConfigDict(size=(1, 2), nested=[{'a': None}]), {'size': (1, 2), 'nested': [{'a': None}]}),
    'numpy': (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
    'path': (Path('/a/b'), '/a/b'),
    'ids': (deque([1, 2]), [1, 2]),
    'colour': (Colour.RED, 3),
    'class': (nn.Linear, 'torch.nn.modules.linear.Linear'),
    'inside': ([1, object(), 2], [1, 2]),
    np.int64(7): (True, True),
}  # fmt: skip


def test_to_plain(path):
    left_out = []
    objects = {key: value for key, (value, _) in PLAIN.items()}
    plain = to_plain({**objects, 'tensor': torch.ones(2, requires_grad=True), 'function': print}, left_out)
    assert left_out == ['inside.1 (object)', 'function (builtin_function_or_method)']
    torch.save(plain, path)
    loaded = torch.load(path, weights_only=True)
    assert loaded.pop('tensor').tolist() == [1, 1]
    assert loaded == {key: value for key, (_, value) in PLAIN.items()}
    assert type(loaded['colour']) is int
