"""``mmmim new-method``: a project that is green at once, wherever it lies."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from mmmim.cli import new_method
from mmmim.cli.main import main
from mmmim.cli.new_method import method_names, write_project
from mmmim.config import resources
from mmmim.utils import InputError
from tests.paths import ROOT

FILES = {'README.md', 'masking.py', 'head.py', 'configs/small.py'}


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob('*') if path.is_file()}


def python(*words, cwd):
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'PYTHONDONTWRITEBYTECODE': '1'}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ('name', 'camel', 'snake'),
    [
        ('my_method', 'MyMethod', 'my_method'),
        ('my method', 'MyMethod', 'my_method'),
        ('MyMethod', 'MyMethod', 'my_method'),
        ('my-MIM', 'MyMIM', 'my_mim'),
        ('I-JEPA2', 'IJEPA2', 'i_jepa2'),
        ('PiLaMIM', 'PiLaMIM', 'pi_la_mim'),
        ('data2vec', 'Data2vec', 'data2vec'),
        ('MIMHead', 'MIMHead', 'mim_head'),
        ('x', 'X', 'x'),
    ],
)
def test_names(name, camel, snake):
    assert method_names(name) == (camel, snake)


@pytest.mark.parametrize('name', ['', ' ', '2vec', '_my', 'my/method', '../x', 'a.b', 'métode', 'a' * 33, 'a\nb'])
def test_names_that_are_none(name):
    with pytest.raises(InputError, match='is no name of a method: use up to 32 letters'):
        method_names(name)


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('uniform', 'mmmim has a class UniformMasking already'),
        ('regression', 'mmmim has a class RegressionHead already'),
        ('json', 'json is a name that Python or an installed package has'),
        ('mmmim', 'mmmim is a name that Python'),
        ('Lambda', 'lambda is a name that Python'),
    ],
)
def test_names_that_are_taken(name, message, tmp_path):
    with pytest.raises(InputError, match=message):
        write_project(name, str(tmp_path))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['x', 'TheLongestNameOfAMethodThereIsXY'])
@pytest.mark.parametrize('inside', [False, True])
def test_what_is_written_passes_ruff(name, inside, tmp_path, monkeypatch):
    """The rules of the repository inside of it, and the most common ones outside."""
    rules = [['check', '--isolated', '--select', 'E,F,W', '--line-length', '120']]
    if inside:
        monkeypatch.setattr(resources, 'repository', lambda: tmp_path)
        monkeypatch.setattr(resources, 'resources', lambda: ROOT)
        shutil.copy(ROOT / 'pyproject.toml', tmp_path)
        (tmp_path / 'mmmim').symlink_to(ROOT / 'mmmim')  # for the order of imports
        rules = [['check'], ['format', '--check']]
    project, _ = write_project(name, str(tmp_path / 'projects'))
    written = files(project)
    assert set(written) == {*FILES, f'test_{project.name}.py'}
    assert not [text for text in written.values() if re.search('example_project|RowMasking|CosineHead', text)]
    assert ('projects.' in written['configs/small.py']) == inside
    for words in rules:
        done = python('-m', 'ruff', *words, '--no-cache', project, cwd=tmp_path)
        assert done.returncode == 0, done.stdout


def test_a_project_outside_of_the_repository_is_green(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(['new-method', 'my method', 'study'])
    said = capsys.readouterr().out
    assert said.startswith(
        'Made study/my_method. To go on:\n  cd study\n  pytest my_method\n  mmmim train my_method/conf'
    )
    done = python('-m', 'pytest', '-p', 'no:cacheprovider', '-q', 'my_method', cwd=tmp_path / 'study')
    assert done.returncode == 0, done.stdout
    assert '5 passed' in done.stdout


def test_a_project_inside_of_the_repository_is_green(tmp_path, monkeypatch, capsys):
    """In ``projects`` of the folder that the command is called in, where that is the repository."""
    monkeypatch.setattr(resources, 'repository', lambda: tmp_path)
    monkeypatch.setattr(resources, 'resources', lambda: ROOT)
    monkeypatch.chdir(tmp_path)
    new_method.main(['MyMethod'])
    assert '  pytest projects/my_method\n' in capsys.readouterr().out
    assert "'projects.my_method.masking'" in (tmp_path / 'projects/my_method/configs/small.py').read_text()
    done = python('-m', 'pytest', '-p', 'no:cacheprovider', '-q', 'projects/my_method', cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert '5 passed' in done.stdout


def test_nothing_is_overwritten(tmp_path, capsys):
    write_project('ours', str(tmp_path))
    (tmp_path / 'ours/head.py').write_text('mine')
    before = files(tmp_path)
    with pytest.raises(SystemExit) as end:
        new_method.main(['Ours', str(tmp_path)])
    assert end.value.code == 2
    assert 'ours exists already, and nothing is overwritten: choose another' in capsys.readouterr().err
    assert files(tmp_path) == before
    (tmp_path / 'file').touch()
    with pytest.raises(InputError, match='cannot be written: Not a directory'):
        write_project('ours', str(tmp_path / 'file'))
