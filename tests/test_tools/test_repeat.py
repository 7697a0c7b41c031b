"""Trained protocols on FashionScenes by the command line, and one with several seeds and numbers of shots."""

import json
import re
import statistics
from pathlib import Path

import pytest

from mmmim.comparison import repeats
from mmmim.utils import InputError
from tests.paths import ROOT

REPEAT = 'analysis_tools/repeat'
QUICK = ('train_cfg.max_iters=2', 'train_cfg.val_interval=2', 'train_dataloader.num_workers=0')
QUICK += (
    'default_hooks.logger.interval=1',
    '+val_dataloader.dataset.indices=20',
    '+test_dataloader.dataset.indices=30',
)


@pytest.fixture
def folder(tmp_path, monkeypatch, fashion_scenes):
    """The current folder, with FashionScenes where the configs look for it."""
    monkeypatch.chdir(tmp_path)
    Path('data').mkdir()
    Path('data/fashion_scenes').symlink_to(fashion_scenes)
    return tmp_path


@pytest.fixture
def here(tool, monkeypatch):
    """Commands of runs in this process; gives them."""
    commands = []

    def run_command(command, folder):
        commands.append(command[1:])
        if '-m' not in command:
            tool(Path(command[1]).stem, *command[2:])
        return 0

    monkeypatch.setattr(repeats, 'run_command', run_command)
    return commands


def test_seeds_and_shots(folder, here, tool):
    """Each has a run, which is made once; rows have the mean and the deviation with n - 1."""
    words = [
        'configs/eval/cls_fewshot_fashion.py',
        '--pretrained',
        'mae/small',
        '--seeds',
        '1',
        '2',
        '--shots',
        '1',
        '3',
    ]
    words += ['--work-dir', 'out', '--cfg-options', *QUICK]
    out = tool(REPEAT, *words)
    assert [command[0].rpartition('/')[2] for command in here] == ['train.py', 'test.py'] * 4
    runs = sorted(path.name for path in Path('out').glob('shots_*'))
    assert runs == ['shots_1_seed_1', 'shots_1_seed_2', 'shots_3_seed_1', 'shots_3_seed_2']
    rows = json.loads(Path('out/repeat.json').read_text())['rows']
    assert [(row['shots'], row['seeds']) for row in rows] == [(1, [1, 2]), (3, [1, 2])]
    for row in rows:
        assert set(row['scores']) >= {'accuracy/top1', 'accuracy/cls', 'accuracy/pooled', 'accuracy/top10'}
        for name, score in row['scores'].items():
            files = [Path(f'out/shots_{row["shots"]}_seed_{seed}/scores.json') for seed in (1, 2)]
            values = [json.loads(file.read_text())[name] for file in files]
            assert score['values'] == values
            assert score['mean'] == pytest.approx(sum(values) / 2)
            assert score['deviation'] == pytest.approx(statistics.stdev(values))
    table = [line for line in out.splitlines() if line.startswith('|')]
    cell = rows[1]['scores']['accuracy/top1']
    assert f'{cell["mean"]:.2f} ± {cell["deviation"]:.2f}' in next(line for line in table if line.startswith('| 3 '))
    assert '\n'.join(table) in Path('out/repeat.md').read_text()
    columns = [cell.strip() for cell in table[0].split('|')[3:-1]]
    assert columns == ['accuracy/top1', 'accuracy/cls', 'accuracy/pooled', 'accuracy/top10']
    configs = {path.parent.name: path.read_text() for path in Path('out').glob('shots_*/cls_fewshot_fashion.py')}
    assert re.search(r'seed=2,\s+shots=3|shots=3,\s+seed=2', configs['shots_3_seed_2'])
    assert 'seed=2' in configs['shots_3_seed_2'].split('randomness')[1].split('\n')[0]

    here.clear()
    tool(REPEAT, *words)
    assert here == []
    error = tool(REPEAT, *words, 'optim_wrapper.optimizer.lr=0.2', code=2)
    assert 'out/shots_1_seed_1 holds a run of another config, data set, encoder or options' in error


@pytest.mark.parametrize('name', ['cls_attentive', 'cls_linear_semantic_mim'])
def test_trained_and_tested_on_fashion_scenes(folder, tool, name):
    """Validated on `val` or a part of the training images, tested on `test`."""
    config = f'configs/eval/{name}_fashion.py'
    parts = ('val_dataloader.dataset.dataset', 'train_dataloader.dataset.dataset.dataset')
    if name == 'cls_attentive':
        options = (*QUICK[:4], f'+{parts[0]}.indices=40', f'+{parts[1]}.indices=40')
        options = (*options, '+test_dataloader.dataset.indices=30', 'val_dataloader.dataset.share=0.5')
        options = (*options, 'train_dataloader.dataset.dataset.share=0.5')
    else:
        options = ('train_cfg.max_epochs=1', 'train_dataloader.num_workers=0', '+val_dataloader.dataset.indices=20')
        options = (*options, '+train_dataloader.dataset.dataset.indices=300', '+test_dataloader.dataset.indices=30')
    tool('train', config, '--pretrained', 'mae/small', '--work-dir', 'out', '--cfg-options', *options)
    checkpoint = Path('out/last_checkpoint').read_text()
    out = tool('test', config, checkpoint, '--work-dir', 'tested', '--out', 'scores.json', '--cfg-options', *options)
    assert 'accuracy/top1' in out
    scores = json.loads(Path('scores.json').read_text())
    assert scores['accuracy/top1'] * 30 / 100 == pytest.approx(round(scores['accuracy/top1'] * 30 / 100))
    dumped = Path('out', Path(config).name).read_text()
    assert ("split='val'" in dumped) == (name != 'cls_attentive')
    assert "split='test'" in dumped


def test_what_is_refused(folder, here, tool):
    words = [REPEAT, 'configs/eval/cls_fewshot_fashion.py', '--pretrained', 'mae/small', '--seeds']
    assert '--seeds: 1 1 has a number twice' in tool(*words, 1, 1, code=2)
    assert '--shots: 2 2 has a number twice' in tool(*words, 1, '--shots', 2, 2, code=2)
    error = tool(REPEAT, 'configs/eval/cls_linear_mae_fashion.py', '--shots', 4, code=2)
    assert 'has no mmmim.FewShot in train_dataloader' in error
    assert 'trains nothing' in tool(REPEAT, 'configs/eval/cls_knn_fashion.py', code=2)
    assert here == []


def test_a_run_that_fails_says_so(folder, monkeypatch):
    monkeypatch.setattr(repeats, 'run_command', lambda command, folder: 1)
    repeat = repeats.Repeat(1, None, folder / 'seed_1', ['randomness.seed=1'])
    with pytest.raises(InputError, match=r'A run failed, its messages are above: .*train\.py a\.py'):
        repeats.run(repeat, 'a.py', [], [])


def test_several_processes(folder, monkeypatch):
    """They are started as `tools/dist_train.sh` starts them."""
    commands = []

    def run_command(command, where):
        commands.append(command[1:])
        (folder / 'seed_1/last_checkpoint').write_text('seed_1/iter_2.pth\n')
        return 0

    monkeypatch.setattr(repeats, 'run_command', run_command)
    repeat = repeats.Repeat(1, None, folder / 'seed_1', ['randomness.seed=1'])
    repeats.run(repeat, 'a.py', ['--pretrained', 'b.pth'], ['c=1'], processes=3)
    train, test = commands
    assert train[:5] == ['-m', 'mmmim.cli.launch', '--standalone', '--nproc-per-node', '3']
    assert train[6:10] == ['a.py', '--launcher', 'pytorch', '--pretrained']
    assert train[-3:] == ['--cfg-options', 'c=1', 'randomness.seed=1']
    assert test[6:10] == ['a.py', '--launcher', 'pytorch', 'seed_1/iter_2.pth']
    assert Path(train[5]) == ROOT / 'tools/train.py'
