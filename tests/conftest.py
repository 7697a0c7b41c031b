"""Settings that must be made before libraries are imported, and where tests run."""

import ast
import functools
import gc
import os
import signal
import sys
from types import SimpleNamespace

import pytest
from yapf.yapflib import yapf_api

from mmmim.utils.threads import choose_threads

# Tests start processes of their own, and small tensors are slower on more threads.
choose_threads(1)
# What a script starts with `&` or `nohup` ignores signals, and so would all that tests start.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
# Nothing is downloaded.
os.environ.setdefault('HF_HUB_OFFLINE', '1')


def _only_parse(code, **options):
    return ast.unparse(ast.parse(code)), False


# mmengine lays out the config five times in every run, which takes yapf longer than a short training.
yapf_api.FormatCode = _only_parse

#: Files that take longest, and start first, so that no process is left alone with one of them.
LONG = ('test_fuzz.py', 'test_golden.py', 'test_distributed_runs.py', 'test_nonfinite.py', 'test_capabilities.py')


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONG.index(item.path.name) if item.path.name in LONG else len(LONG))


def pytest_collection_finish():
    # Each data set collects garbage, which would look at everything that was ever imported.
    gc.freeze()
    if runner := sys.modules.get('mmengine.runner.runner'):  # asks compilers for their versions in every run
        runner.collect_env = functools.cache(runner.collect_env)
    if loops := sys.modules.get('mmengine.runner.loops'):  # waits for two seconds between epochs
        loops.time = SimpleNamespace(sleep=lambda seconds: None)


@pytest.fixture(scope='session')
def session_folder(tmp_path_factory):
    """A temporary folder that the processes of one run of the tests share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if os.environ.get('PYTEST_XDIST_WORKER') else own


@pytest.fixture(scope='session')
def fashion_scenes(session_folder):
    """Where FashionScenes lies, written once per run of the tests; `multi` is written by the first that reads it."""
    from filelock import FileLock

    from mmmim.datasets.fashion_scenes import write_fashion_scenes

    with FileLock(session_folder / 'fashion_scenes.lock'):
        return write_fashion_scenes(session_folder / 'fashion_scenes', 'single').parent


@pytest.fixture(scope='session', autouse=True)
def elsewhere(tmp_path_factory):
    """Run the tests in an empty folder: nothing is read from or left in `data` and `work_dirs` of the repository."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp('elsewhere'))
    yield
    os.chdir(before)


@pytest.fixture
def tool(monkeypatch, capsys):
    """Run ``tools/<name>.py`` in this process: each start of one imports torch for seconds.

    Called with its name, its arguments and the exit status that is expected; gives what it printed, of a status other
    than 0 its errors.
    """
    from tests.paths import load_tool

    def run(name, *args, code=0):
        capsys.readouterr()
        monkeypatch.setenv('LOCAL_RANK', '0')  # which would stay set
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, args)])
        if not code:
            load_tool(name).main()
            return capsys.readouterr().out
        with pytest.raises(SystemExit) as exit_info:
            load_tool(name).main()
        assert exit_info.value.code == code
        return capsys.readouterr().err

    return run


@pytest.fixture
def config_of(tool, monkeypatch):
    """The config that ``tools/train.py`` or ``tools/test.py`` makes of a command line, and would run."""
    from mmmim.engine import Runner

    def make(name, *args):
        configs = []

        def from_cfg(cfg):
            configs.append(cfg)
            return SimpleNamespace(train=dict, test=dict, test_loop=None)

        with monkeypatch.context() as patch:
            patch.setattr(Runner, 'from_cfg', from_cfg)
            tool(name, *args)
        return configs[0]

    return make
