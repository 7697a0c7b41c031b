"""The first losses of every small config are those that are recorded in tests/golden."""

import re
import sys

import pytest
from mmengine.device import get_device

from mmmim.utils import InputError
from tests.paths import ROOT, load_tool

GOLDEN = load_tool('misc/golden')
CONFIGS = GOLDEN.configs(ROOT)


@pytest.mark.skipif(get_device() != 'cpu', reason='recorded on a CPU: python tools/misc/golden.py compares on it')
@pytest.mark.parametrize('method', CONFIGS)
def test_first_losses(fashion_scenes, method):
    file = GOLDEN.golden_file(ROOT, method)
    if reason := GOLDEN.other_torch(file):
        pytest.skip(reason)
    recorded = GOLDEN.read(file)
    assert len(recorded) == GOLDEN.STEPS
    lines = GOLDEN.differences(recorded, GOLDEN.first_losses(CONFIGS[method], fashion_scenes))
    assert not lines, 'If they are meant to change: python tools/misc/golden.py --update REASON\n' + '\n'.join(lines)


def test_every_config_has_a_file_and_every_file_a_config():
    assert {'capi', 'semantic_mim_beit', 'bootmae'} < {*CONFIGS}
    assert {path.name for path in (ROOT / 'tests/golden').iterdir()} == {f'{method}.txt' for method in CONFIGS}


def test_one_in_the_last_digit_is_no_difference():
    recorded = [16.6951, 0.144318, 2.0]
    assert GOLDEN.differences(recorded, [16.69519, 0.1443189, 2.000009]) == []
    (line,) = GOLDEN.differences(recorded, [16.6951, 0.144320, 2.0])
    assert line == 'step 2: 0.144320 instead of 0.144318 (+2.0e-06, +1.4e-05 of it)'
    assert len(GOLDEN.differences(recorded, [float('nan')] * 3)) == 3
    assert GOLDEN.differences(recorded, [1.0]) == ['3 losses are recorded, 1 were measured']


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository of two configs whose losses need no training."""
    for method in ('a', 'b'):
        (tmp_path / 'configs' / method).mkdir(parents=True)
        (tmp_path / 'configs' / method / 'small.py').touch()
    losses = {'a': [1.0, 0.5], 'b': [2.0, 1.5]}
    monkeypatch.setattr(GOLDEN, 'first_losses', lambda config, data_root: losses[config.parent.name])
    return tmp_path, losses


def test_what_differs_is_named_and_recorded_with_its_reason(repository, capsys):
    root, losses = repository
    with pytest.raises(InputError, match=r'a\.txt cannot be read .*--update REASON records it'):
        GOLDEN.run(root, [], None, '')
    assert GOLDEN.run(root, [], 'first ones', '')
    assert GOLDEN.run(root, [], None, '')
    assert 'differs' not in capsys.readouterr().out
    before = GOLDEN.golden_file(root, 'a').read_text()
    assert '# Reason: first ones\n' in before
    assert re.search(rf'# torch \S+, seed 0, .*, {GOLDEN.DIGITS} significant digits\.\n', before)

    losses['b'] = [2.0, 1.6]
    assert not GOLDEN.run(root, [], None, '')
    assert '[2/2] b: differs\n    step 2: 1.60000 instead of 1.50000 (+1.0e-01, ' in capsys.readouterr().out
    assert GOLDEN.run(root, ['a'], None, '')
    assert GOLDEN.run(root, [], 'a new head', '')
    assert GOLDEN.golden_file(root, 'a').read_text() == before
    assert '# Reason: a new head\n' in GOLDEN.golden_file(root, 'b').read_text()
    assert GOLDEN.read(GOLDEN.golden_file(root, 'b')) == losses['b']


def test_another_release_of_torch_is_named(repository, monkeypatch, capsys):
    root, losses = repository
    GOLDEN.run(root, ['a'], 'why', '')
    file = GOLDEN.golden_file(root, 'a')
    assert GOLDEN.other_torch(file) is None
    monkeypatch.setattr('torch.__version__', '2.140.0')
    assert re.fullmatch(r'a\.txt was recorded with torch \d+\.\d+ and this is 2\.140\.0: .*', GOLDEN.other_torch(file))
    assert GOLDEN.run(root, ['a'], None, '')  # equal all the same
    losses['a'] = [1.0, 0.6]
    assert not GOLDEN.run(root, ['a'], None, '')
    assert 'and this is 2.140.0' in capsys.readouterr().out


def test_what_is_refused(repository, monkeypatch, capsys):
    root, losses = repository
    with pytest.raises(InputError, match=r'^c: there are a, b\.$'):
        GOLDEN.run(root, ['c'], None, '')
    losses['a'] = [1.0, float('inf')]
    with pytest.raises(InputError, match='not finite'):
        GOLDEN.run(root, ['a'], 'why', '')
    (root / 'tests/golden').mkdir(parents=True)
    GOLDEN.golden_file(root, 'a').write_text('much\n')
    with pytest.raises(InputError, match=r'a\.txt is no file of losses'):
        GOLDEN.run(root, ['a'], None, '')
    monkeypatch.setattr(sys, 'argv', ['golden.py', '--update', '  '])
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    with pytest.raises(SystemExit) as caught:
        GOLDEN.main()
    assert caught.value.code == 2
    assert 'error: --update wants a reason' in capsys.readouterr().err
