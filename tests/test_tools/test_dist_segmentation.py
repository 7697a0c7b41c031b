"""A trained protocol of segmentation in several processes, by the scripts."""

import json

import pytest
import torch

from mmmim.registry import MODELS
from tests.paths import ROOT, run_tool
from tests.test_tools.test_dist_scripts import on_cpu, script
from tests.toys import capi_config

CONFIG = ROOT / 'configs/eval/seg_linear_digits.py'
#: An odd number of images: one of the processes gets an image that the other has, too.
TRAIN = [
    '--cfg-options',
    'global_batch_size=8',
    'train_cfg.max_iters=2',
    'train_cfg.val_interval=2',
    'param_scheduler.warmup.end=1',
    'param_scheduler.decay.begin=1',
    'default_hooks.checkpoint.interval=2',
    '+train_dataloader.dataset.dataset.indices=16',
    '+val_dataloader.dataset.indices=13',
]
TEST = ['--cfg-options', '+test_dataloader.dataset.indices=13', 'test_dataloader.batch_size=3']


@on_cpu
@pytest.mark.slow
def test_two_processes_train_and_test_a_segmentor(tmp_path, digit_scenes):
    """The score is that of one process."""
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/digit_scenes').symlink_to(digit_scenes)
    torch.manual_seed(0)
    config = capi_config()
    torch.save(
        {'state_dict': MODELS.build(config).state_dict(), 'mmmim': {'version': 1, 'model': config}}, tmp_path / 'a.pth'
    )
    work_dir, segmentor = tmp_path / 'run', tmp_path / 'run/iter_2.pth'
    output = script(
        'dist_train.sh', CONFIG, 2, '--pretrained', tmp_path / 'a.pth', '--work-dir', work_dir, *TRAIN, cwd=tmp_path
    )
    assert '2 process(es) (GPUs) x 4 images = effective batch of 8 images' in output
    assert output.count('Saving checkpoint at 2 iterations') == 1

    scores = []
    for name in ('two', 'one'):
        out = tmp_path / f'{name}.json'
        arguments = ['--work-dir', tmp_path / name, '--out', out, *TEST]
        if name == 'two':
            script('dist_test.sh', CONFIG, segmentor, 2, *arguments, cwd=tmp_path)
        else:
            done = run_tool('test.py', CONFIG, segmentor, *arguments, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
        scores.append(json.loads(out.read_text()))
    assert scores[0] == scores[1]
    assert scores[0]['mIoU'] > 0
