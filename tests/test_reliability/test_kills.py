"""A training that is killed while it saves, again and again."""

import json
import random
import time
from pathlib import Path

import pytest

from mmmim.checkpoints import load_checkpoint_file
from mmmim.checkpoints.folder import CheckpointFolder
from tests import runs
from tests.processes import kill, start, wait
from tests.test_engine.toy_training import toy_config

pytestmark = pytest.mark.slow
KILLS, WIDTH = 50, 30_000  # of each of two cases; a checkpoint of about 2 MB


def train(work_dir, iterations, keep, workers):
    cfg = toy_config(work_dir, train_cfg__max_iters=iterations, model__width=WIDTH, resume='auto')
    cfg.default_hooks.checkpoint = {
        'type': 'mmmim.CheckpointHook', 'by_epoch': False, 'interval': 1, 'max_keep_ckpts': keep,
    }  # fmt: skip
    cfg.custom_hooks = cfg.custom_hooks[:1]
    cfg.train_dataloader.num_workers = workers
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.param_scheduler = []
    runs.start(cfg)


@pytest.mark.parametrize(('keep', 'workers'), [(1, 0), (3, 1)])
def test_killed_while_saving(tmp_path, keep, workers):
    """The newest checkpoint loads after every kill, nothing piles up, and the end is that of a run without kills."""
    folder = tmp_path / 'killed'
    folder.mkdir()
    draw = random.Random(keep)
    while_writing = before_the_first = 0
    last = 0
    for number in range(KILLS):
        log = tmp_path / f'{number}.log'
        process = start(lambda log=log: train(folder, 10_000, keep, workers), log)
        if number % 10 == 9:  # whatever it does
            time.sleep(draw.uniform(0, 2))
        else:
            while 'Saving checkpoint' not in (log.read_text() if log.exists() else ''):
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.3))
            while number % 2 and not list(folder.glob('*.tmp')):
                time.sleep(0.0002)
        assert kill(process) == -9, log.read_text()[-2000:]
        while_writing += bool(list(folder.glob('*.tmp')))
        names = [path.name for path in folder.glob('iter_*.pth')]
        if not names:
            before_the_first += 1
            continue
        newest, _ = CheckpointFolder(folder).find_latest()
        iteration = load_checkpoint_file(newest)['meta']['iter']
        assert Path(newest).name == f'iter_{iteration}.pth'
        assert iteration >= last
        assert iteration == max(int(name[5:-4]) for name in names)
        assert len(names) <= keep + 1
        last = iteration

    log = tmp_path / 'log'
    assert wait(start(lambda: train(folder, last + 3, keep, workers), log)) == 0, log.read_text()[-2000:]
    assert f'Resumed {folder}/iter_{last}.pth' in log.read_text()
    assert len(list(folder.glob('iter_*.pth'))) == keep
    assert not list(folder.glob('*.tmp'))
    assert not (folder / '.lock').exists()
    assert wait(start(lambda: train(tmp_path / 'whole', last + 3, keep, 0), log)) == 0
    one, other = (load_checkpoint_file(path / f'iter_{last + 3}.pth') for path in (folder, tmp_path / 'whole'))
    for part in ('state_dict', 'optimizer'):
        runs.assert_same(one[part], other[part], part)
    assert while_writing >= KILLS // 4  # otherwise nothing was tried
    print(
        json.dumps({
            'kills': KILLS, 'while a file was written': while_writing, 'before the first checkpoint': before_the_first,
            'iterations': last + 3,
        })
    )  # fmt: skip
