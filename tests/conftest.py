"""Settings that must be made before libraries are imported, and where tests run."""

import os

import pytest

from mmmim.utils.threads import choose_threads

# Tests start processes of their own, and small tensors are slower on more threads.
choose_threads(1)
# Nothing is downloaded.
os.environ.setdefault('HF_HUB_OFFLINE', '1')


@pytest.fixture(scope='session')
def session_folder(tmp_path_factory):
    """A temporary folder that the processes of one run of the tests share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if os.environ.get('PYTEST_XDIST_WORKER') else own


@pytest.fixture(scope='session')
def digit_scenes(session_folder):
    """Where DigitScenes lies, written once per run of the tests; `multi` is written by the first that reads it."""
    from filelock import FileLock

    from mmmim.datasets.digit_scenes import write_digit_scenes

    with FileLock(session_folder / 'digit_scenes.lock'):
        return write_digit_scenes(session_folder / 'digit_scenes', 'single').parent


@pytest.fixture(scope='session', autouse=True)
def elsewhere(tmp_path_factory):
    """Run the tests in an empty folder: nothing is read from or left in `data` and `work_dirs` of the repository."""
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp('elsewhere'))
    yield
    os.chdir(before)
