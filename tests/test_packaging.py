"""A wheel brings configs and tools along; the source tree and editable installs stay as they are."""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_string
from pathlib import Path

import pytest
from mmengine import hub
from packaging.requirements import Requirement
from packaging.version import Version

import mmmim.registry
from mmmim.config.resources import find_config, repository, resources
from tests.paths import ROOT

FOLDERS = ('configs', 'docs', 'mmmim', 'projects', 'requirements', 'tests', 'tools')
REPOSITORY = 'https://host/owner/mmmim'


def build(source, kind, out, repository=''):
    """Build in a process of its own; returns the file."""
    out.mkdir(exist_ok=True)
    code = f'import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])'
    environment = {**os.environ, 'MMMIM_REPOSITORY': repository}
    done = subprocess.run(
        [sys.executable, '-c', code, str(out)],
        cwd=source,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (file,) = out.iterdir()
    return file


def files(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file()}


def lines(path):
    return [line for line in path.read_text().splitlines() if not line.startswith('#')]


@pytest.fixture(scope='module')
def clone(tmp_path_factory):
    """A copy of the repository without what git ignores."""
    folder = tmp_path_factory.mktemp('clone') / 'repository'
    folder.mkdir()
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns('__pycache__'))
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope='module')
def unpacked(clone, tmp_path_factory):
    """What lies in site-packages after an installation of the wheel that the source distribution makes."""
    folder = tmp_path_factory.mktemp('wheel')
    before = {name for name in files(clone) if not name.startswith('mmmim/.mim/')}
    # What must not be packed, though it lies there.
    (clone / 'configs/capi/__pycache__').mkdir()
    (clone / 'configs/capi/__pycache__/a.pyc').touch()
    (clone / 'tools/.hidden').touch()
    with tarfile.open(build(clone, 'sdist', folder / 'sdist')) as archive:
        archive.extractall(folder / 'source')
    (source,) = (folder / 'source').iterdir()
    assert before <= files(source) | {'.gitignore', '.git'}
    with zipfile.ZipFile(build(source, 'wheel', folder / 'wheel', f'{REPOSITORY}/')) as archive:
        archive.extractall(folder / 'site-packages')
        for info in archive.infolist():  # as pip does
            (folder / 'site-packages' / info.filename).chmod(info.external_attr >> 16)
    assert not any(name.startswith(('build/', 'mmmim/.mim/')) for name in files(source))
    shutil.copy(source / 'PKG-INFO', folder)
    return folder / 'site-packages'


def test_contents_of_the_wheel(clone, unpacked):
    shipped = unpacked / 'mmmim/.mim'
    # The example is what `mmmim new-method` copies.
    folders = ('configs', 'tools', 'projects/example_project')
    expected = {f'{top}/{name}' for top in folders for name in files(ROOT / top)}
    # Pictures are for pages that are read in the repository or on the site.
    expected = {n for n in expected if '__pycache__' not in n and n[-4:] != '.png' and not Path(n).name.startswith('.')}
    assert files(shipped) == {*expected, 'model-index.yml'}
    assert {path.name for path in unpacked.iterdir() if not path.name.endswith('.dist-info')} == {'mmmim'}
    code = {name for name in files(ROOT / 'mmmim') if name.endswith('.py')}
    data = {name for name in files(ROOT / 'mmmim') if name.startswith('datasets/fashion_mnist/')}
    data |= {name for name in files(ROOT / 'mmmim') if name.startswith('visualization/templates/')}
    data.add('datasets/classification/imagenet1k.txt')
    # `py.typed` makes type checkers read the annotations of the package.
    assert {name for name in files(unpacked / 'mmmim') if not name.startswith('.mim/')} == {*code, *data, 'py.typed'}
    assert 'datasets/fashion_mnist/LICENSE' in data
    (record,) = unpacked.glob('*.dist-info/RECORD')
    assert 'mmmim/.mim/configs/capi/vitl14.py,sha256=' in record.read_text()


def test_metadata(unpacked):
    """Where the page is not beside its repository, its links lead there, or are words where none was named."""
    (file,) = unpacked.glob('*.dist-info/METADATA')
    metadata, of_the_sdist = (message_from_string(path.read_text()) for path in (file, unpacked.parent / 'PKG-INFO'))
    assert metadata['Version'] == of_the_sdist['Version'] == mmmim.__version__
    assert metadata['License-Expression'] == 'Apache-2.0 AND MIT'
    for name in metadata.get_all('License-File'):
        assert (file.parent / 'licenses' / name).read_text() == (ROOT / name).read_text()
    assert f'Repository, {REPOSITORY}' in metadata.get_all('Project-URL')

    pattern = r'\]\(([^)]+)\)|(?:src|href)="([^"]+)"'
    main_page, page, plain = (
        [link for pair in re.findall(pattern, text) for link in pair if link]
        for text in ((ROOT / 'README.md').read_text(), metadata.get_payload(), of_the_sdist.get_payload())
    )
    elsewhere = [link for link in main_page if link.startswith('https://')]
    assert 0 < len(elsewhere) < len(main_page)
    assert plain == elsewhere
    assert all(link.startswith('https://') for link in page)
    tag = f'v{mmmim.__version__}'
    assert [re.sub(f'{REPOSITORY}/(raw|blob)/{tag}/', '', link) for link in page] == main_page
    assert f'{REPOSITORY}/raw/{tag}/docs/figures/features.png' in page


def test_one_version():
    version = re.escape(mmmim.__version__)
    assert re.search(rf'^version: {version}$', (ROOT / 'CITATION.cff').read_text(), re.MULTILINE)
    (date,) = re.findall(r'^date-released: (.*)$', (ROOT / 'CITATION.cff').read_text(), re.MULTILINE)
    headings = re.findall(r'^## (.*)$', (ROOT / 'CHANGELOG.md').read_text(), re.MULTILINE)
    assert headings[:2] == ['Unreleased', f'{mmmim.__version__} - {date}']


SCRIPT = """
import contextlib, io, json, pathlib, runpy, sys
import mmmim, mmmim.registry
from mmengine.registry import DefaultScope
from mmmim.registry import register_all_modules

# Registries can be filled for looking, in a process where nothing has been looked up.
assert 'ViT' not in str(mmmim.registry.MODELS)
register_all_modules(init_default_scope=False)
assert all(name in str(mmmim.registry.MODELS) for name in ('ViT', 'MaskedImageModeling', 'PixelTarget'))
assert 'HealthHook' in str(mmmim.registry.HOOKS) and 'FitTestLoop' in str(mmmim.registry.LOOPS)
assert all(len(getattr(mmmim.registry, name)) for name in ('DATASETS', 'TRANSFORMS', 'SCHEDULES', 'PROBES'))
scope = DefaultScope.get_current_instance()
assert scope is None or scope.scope_name != 'mmmim'
register_all_modules()
assert DefaultScope.get_current_instance().scope_name == 'mmmim'

import torch
from mmengine import hub
from mmmim.cli.main import main
from mmmim.comparison.jobs import ROOT, make_jobs

tools = pathlib.Path(mmmim.__file__).parent / '.mim/tools'

def run(tool, *words):
    sys.argv = [str(tools / f'{tool}.py'), *words]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            if tool is None:
                main()
            else:
                runpy.run_path(sys.argv[0], run_name='__main__')
            code = 0
        except SystemExit as end:
            code = end.code or 0
    return [code, said.getvalue()]

for tool in sorted(tools.rglob('*.py')):
    assert run(tool.relative_to(tools).with_suffix(''), '--help')[0] == 0, tool
model = mmmim.get_model('mae/small')
spec = {'subsets': {'single': {'a': {'config': 'configs/capi/small.py'}}}}
commands = make_jobs(spec, [0], pathlib.Path('/nowhere'), 'val')[0].commands
shape = list(model(torch.zeros(1, 3, 32, 32)).pooled.shape)
said = [
    run('misc/scale_recipe', 'capi/small', '--iters', '400'),
    run('train', 'configs/capi/digit.py'),
    run(None, 'list', 'capi/small'),
    run(None, 'list', '--papers', 'Latent MIM table 7'),
    run(None, 'train', 'configs/capi/digit.py'),
    run('misc/make_metafiles', '--check'),
]
hubs = [hub.get_config('mmmim::capi/vitl14.py').filename, type(hub.get_model('mmmim::mae/small.py')).__name__]
print(json.dumps([mmmim.__file__, mmmim.list_models(), shape, str(ROOT), commands, said, hubs]))
"""


def test_registries_models_tools_and_comparisons_of_the_wheel(unpacked, tmp_path):
    shipped = unpacked / 'mmmim/.mim'
    # Folders of these names may lie beside any package.
    (unpacked / 'configs/capi').mkdir(parents=True, exist_ok=True)
    (unpacked / 'configs/capi/foreign.py').touch()
    environment = {**os.environ, 'PYTHONPATH': str(unpacked), 'OMP_NUM_THREADS': '1'}
    command = [sys.executable, '-c', SCRIPT]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    file, names, shape, root, commands, said, hubs = json.loads(done.stdout.splitlines()[-1])
    assert file.startswith(str(unpacked))
    assert names == mmmim.list_models()
    assert shape == [1, 96]
    assert root == str(tmp_path)  # comparisons run where the user is
    assert [Path(command[1]).is_relative_to(unpacked) for command in commands] == [True, True]
    assert all(Path(command[1]).is_file() for command in commands)
    recipe, missing, listed, papers, missing_too, metafiles = said
    assert recipe[0] == 0
    assert f'_base_ = {str(shipped / "configs/capi/small.py")!r}' in recipe[1]
    for code, text in (missing, missing_too):
        assert (code, 'error: The config configs/capi/digit.py does not exist' in text) == (2, True)
    assert (listed[0], listed[1].split()) == (0, ['capi/small', 'capi/small_gpu'])
    repeat = shipped / 'tools/analysis_tools/repeat.py'
    words = ' '.join(papers[1].replace('\\\n', '').split())
    assert (papers[0], f'MMMIM_DATA=dtd_coop python {repeat} eval/cls_fewshot' in words) == (0, True)
    assert (metafiles[0], 'installed without its repository' in metafiles[1]) == (2, True)
    assert hubs == [str(shipped / 'configs/capi/vitl14.py'), 'MaskedImageModeling']
    assert files(tmp_path) == set()
    assert all(os.access(tool, os.X_OK) for tool in (shipped / 'tools').rglob('*.sh'))
    (script,) = unpacked.glob('*.dist-info/entry_points.txt')
    assert 'mmmim = mmmim.cli.main:main' in script.read_text().splitlines()


def test_a_project_made_by_the_wheel(unpacked, tmp_path):
    environment = {**os.environ, 'PYTHONPATH': str(unpacked), 'OMP_NUM_THREADS': '1'}
    make = ['-c', 'from mmmim.cli.main import main; main()', 'new-method', 'packaged method']
    for words in (make, ['-m', 'pytest', '-p', 'no:cacheprovider', '-q', 'packaged_method']):
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert '5 passed' in done.stdout


def test_editable_installs_read_the_repository(clone, tmp_path):
    with zipfile.ZipFile(build(clone, 'editable', tmp_path / 'out')) as archive:
        assert not any('.mim' in name for name in archive.namelist())
    # mmengine.hub and `mim` read configs below the package, of all packages: links of the repository lead there.
    for name in ('configs', 'tools', 'model-index.yml'):
        assert (clone / 'mmmim/.mim' / name).readlink() == Path('../..', name)
    assert hub.get_config('mmmim::capi/vitl14.py').filename == str(ROOT / 'mmmim/.mim/configs/capi/vitl14.py')
    model = hub.get_model('mmmim::capi/small.py')
    assert type(model) is mmmim.registry.MODELS.get('MaskedImageModeling')


def test_where_resources_are(tmp_path):
    assert repository() == resources() == ROOT
    package = tmp_path / 'mmmim'
    (tmp_path / 'configs').mkdir()
    (tmp_path / 'model-index.yml').touch()
    assert repository(package) is None
    assert resources(package) == package / '.mim'
    (tmp_path / 'setup.py').touch()
    assert repository(package) == resources(package) == tmp_path
    assert find_config('capi/small') == find_config('configs/capi/small.py') == ROOT / 'configs/capi/small.py'
    for name in (
        'capi',
        'configs/capi',
        'configs/capi/README.md',
        'configs/../setup.py',
        str(ROOT / 'setup.py'),
        'capi/none',
    ):
        assert find_config(name) is None


def test_the_oldest_versions_are_the_lower_bounds():
    """`.ci/run oldest` installs what the requirements say is enough."""
    folder = ROOT / 'requirements'
    oldest = dict(line.split('==') for line in lines(folder / 'oldest.txt'))
    bounds = {}
    for path in folder.glob('*.txt'):
        if path.name not in ('oldest.txt', 'docs.txt'):  # the site is built with the newest
            bounds |= {Requirement(line).name: Requirement(line).specifier for line in lines(path)}
    assert set(bounds) - set(oldest) == {'import-linter', 'mypy', 'ruff'}  # which look at the code alone
    for name, version in oldest.items():
        (lower,) = [each.version for each in bounds[name] if each.operator == '>=']
        assert Version(version) in bounds[name]
        assert f'{version}.'.startswith(f'{lower}.')
