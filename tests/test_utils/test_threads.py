"""Threads are chosen before torch is imported, and what the user sets wins."""

import os
import re
import subprocess
import sys

import pytest

from mmmim.utils import threads
from tests.paths import ROOT

VARIABLES = (*threads.NUMBER, *threads.WAITING)


@pytest.fixture
def without_torch(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, 'torch', raising=False)
    monkeypatch.setattr(threads, '_container_limit', lambda: None)
    return monkeypatch


def test_the_choice(without_torch):
    assert threads.choose_threads() == threads.POLICY
    assert os.environ['OMP_WAIT_POLICY'] == 'PASSIVE'
    without_torch.delenv('OMP_WAIT_POLICY')
    without_torch.delenv('KMP_BLOCKTIME')
    without_torch.setattr(threads, '_container_limit', lambda: 3)
    assert threads.choose_threads() == {**threads.POLICY, 'OMP_NUM_THREADS': '3'}
    without_torch.delenv('OMP_NUM_THREADS')
    assert threads.choose_threads(1)['OMP_NUM_THREADS'] == '1'


@pytest.mark.parametrize('name', VARIABLES)
def test_what_is_set_wins(without_torch, name):
    without_torch.setenv(name, '2')
    chosen = threads.choose_threads(1)
    assert os.environ[name] == '2'
    assert ('OMP_NUM_THREADS' in chosen) == (name in threads.WAITING)
    assert ('OMP_WAIT_POLICY' in chosen) == (name in threads.NUMBER)
    without_torch.setitem(sys.modules, 'torch', object())  # too late is not half
    assert threads.choose_threads(1) == {}


def test_control_groups(tmp_path, monkeypatch):
    own, root = tmp_path / 'cgroup', tmp_path / 'fs'
    (root / 'a/b').mkdir(parents=True)
    (root / 'cpu/c').mkdir(parents=True)
    own.write_text('0::/a/b\n')
    assert threads._groups(root, own) == [root / 'a/b', root / 'a', root]
    own.write_text('4:cpu,cpuacct:/c\n3:memory:/x\n')
    assert threads._groups(root, own) == [root / 'cpu/c', root / 'cpu']
    (root / 'a/b/cpu.max').write_text('max 100000\n')
    (root / 'a/cpu.max').write_text('150000 100000\n')
    (root / 'cpu/c/cpu.cfs_quota_us').write_text('-1\n')
    (root / 'cpu/c/cpu.cfs_period_us').write_text('100000\n')
    quotas = [threads._quota(group) for group in (root / 'a/b', root / 'a', root, root / 'cpu/c')]
    assert quotas == [None, 1.5, None, None]
    monkeypatch.setattr(threads, '_groups', lambda: [root / 'a/b', root / 'a'])
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(64)))
    assert threads._container_limit() == 2
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: {0, 1})
    assert threads._container_limit() is None


def run(code, *args, **env):
    env = {key: value for key, value in os.environ.items() if key not in VARIABLES} | {'PYTHONPATH': str(ROOT), **env}
    done = subprocess.run([sys.executable, '-c', code, *map(str, args)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_openmp_takes_it():
    """As torch's OpenMP says when it is loaded, in what a tool runs in."""
    code = 'from mmmim.cli.program import user_errors\nwith user_errors():\n    import torch'
    assert re.search(r"OMP_WAIT_POLICY\s*=\s*'PASSIVE'", run(code, OMP_DISPLAY_ENV='VERBOSE'))


def test_every_tool_chooses_first():
    """What a tool runs in sets the variables, and nothing that computes is imported before it."""
    tools = sorted((ROOT / 'tools').rglob('*.py'))
    code = (
        'import runpy, sys\n'
        'for tool in sys.argv[1:]:\n'
        '    runpy.run_path(tool)\n'
        "    early = {'torch', 'numpy', 'mmengine', 'cv2'} & set(sys.modules)\n"
        '    assert not early, (tool, early)\n'
    )
    run(code, *tools)
    for tool in tools:
        code = tool.read_text()
        if shared := re.search(r'from mmmim\.cli\.(\w+) import main\n', code):
            code = (ROOT / f'mmmim/cli/{shared[1]}.py').read_text()
        assert '@user_errors()\ndef main(' in code, tool
