"""Files that changed are noticed, whether all are looked at or some."""

import os

import pytest

from mmmim.features import file_states
from mmmim.features.file_states import files_digest


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Twenty files in two folders, of which five are looked at every time."""
    monkeypatch.setattr(file_states, 'SAMPLE', 5)
    paths = [tmp_path / 'data' / 'ab'[i % 2] / f'{i:02}' for i in range(20)]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('x')
        os.utime(path, ns=(0, 0))
    return [str(path) for path in paths]


def looked_at(monkeypatch):
    """The paths whose state is read from now on."""
    seen = []
    state = file_states._state
    monkeypatch.setattr(file_states, '_state', lambda path: (seen.append(path), state(path))[1])
    return seen


def test_many_files_are_looked_at_once(files, tmp_path, monkeypatch):
    store = tmp_path / 'store'
    exact = files_digest(files)
    assert files_digest(files, store) == exact
    seen = looked_at(monkeypatch)
    assert files_digest(files, store) == exact
    assert len(seen) == 2 + 5  # folders and sample


@pytest.mark.parametrize(
    'change',
    [
        lambda paths: os.utime(paths[8], ns=(1, 1)),  # in the sample
        lambda paths: os.remove(paths[1]),
        lambda paths: os.replace(paths[1], paths[3]),
        lambda paths: paths.pop(),
        lambda paths: paths.reverse(),
    ],
)
def test_changes_are_noticed(files, tmp_path, change):
    store = tmp_path / 'store'
    before = files_digest(files, store)
    change(files)
    assert files_digest(files, store) != before
    assert files_digest(files, store) == files_digest(files)


def test_what_only_an_exact_look_finds(files, tmp_path):
    store = tmp_path / 'store'
    before = files_digest(files, store)
    os.utime(files[1], ns=(1, 1))  # neither a folder nor the sample
    assert files_digest(files, store) == before
    assert files_digest(files, store, exact=True) == files_digest(files) != before
    assert files_digest(files, store) == files_digest(files)


@pytest.mark.parametrize('text', ['', '{}', '[1]', '{"digest": 3}', '\x00'])
def test_a_damaged_store_is_made_anew(files, tmp_path, text):
    store = tmp_path / 'store'
    before = files_digest(files, store)
    (kept,) = store.iterdir()
    kept.write_text(text)
    assert files_digest(files, store) == before


def test_few_files_are_always_looked_at(files, tmp_path):
    store = tmp_path / 'store'
    before = files_digest(files[:5], store)
    os.utime(files[1], ns=(1, 1))
    assert files_digest(files[:5], store) != before
    assert not store.exists()
