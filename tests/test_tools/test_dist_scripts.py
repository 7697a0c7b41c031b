"""The scripts that start several processes: what they start, and what they refuse."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from mmengine import Config

from mmmim.evaluation.probes.quick import quick_scores
from mmmim.features.extraction import encoders
from mmmim.features.labelled_images import LabelledImages
from mmmim.registry import DATASETS, MODELS
from tests.paths import ROOT, run_tool
from tests.shrink import shrink, write_images
from tests.test_engine import toy_training
from tests.toys import capi_config, save_model

TOY, TOOLS = ROOT / 'tests/test_engine', ROOT / 'tools'


def script(name, *args, cwd, code=0, **env):
    env = {**os.environ, 'PYTHONPATH': str(TOY), 'PYTHON': sys.executable, **env}
    env.pop('OMP_NUM_THREADS', None)
    command = [str(TOOLS / name), *map(str, args)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=env, timeout=300, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def toy_file(tmp_path):
    # A space in the name and in the folder, and no batch size but the global one.
    path = tmp_path / 'with space' / 'my toy.py'
    path.parent.mkdir()
    path.write_text(toy_training.CONFIG.replace('    batch_size=8, num', '    num', 1) + '\nglobal_batch_size = 8\n')
    return path


on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason='on a GPU machine the processes would use GPUs')


@on_cpu
def test_two_processes_train(toy_file):
    cwd = toy_file.parent
    output = script('dist_train.sh', toy_file.name, 2, '--cfg-options', 'train_cfg.max_iters=6', cwd=cwd)
    assert '2 process(es) (GPUs) x 4 images = effective batch of 8 images' in output
    assert 'destroy_process_group' not in output
    assert output.count('Saving checkpoint at 6 iterations') == 1
    checkpoint = cwd / 'work_dirs' / 'my toy' / 'iter_6.pth'
    assert torch.load(checkpoint, weights_only=True)['meta']['iter'] == 6


@on_cpu
@pytest.mark.slow
def test_two_processes_train_a_sharded_model(tmp_path):
    """All hooks that call the model, and what they write is true of the checkpoint."""
    full = Config.fromfile(ROOT / 'configs/capi/small.py')
    for name in ('cat', 'dog'):
        write_images(tmp_path / 'images' / name, number=12)
    cfg = shrink(full, tmp_path / 'images', tmp_path / 'out')
    resize = dict(type='mmpretrain.Resize', scale=32)
    pipeline = [dict(type='mmmim.LoadImage'), resize, dict(type='mmpretrain.PackInputs')]
    labelled = dict(type='mmmim.ImageFolder', data_root=str(tmp_path / 'images'), with_label=True, pipeline=pipeline)
    cfg.probe_data = dict(train=labelled, val=labelled)
    sampler = dict(type='mmengine.DefaultSampler', shuffle=False)
    cfg.val_dataloader = dict(batch_size=5, num_workers=0, sampler=sampler)
    cfg.val_dataloader.dataset = dict(type='mmmim.SeededDataset', dataset=labelled)
    cfg.val_dataloader.collate_fn = cfg.train_dataloader.collate_fn
    cfg.val_cfg, cfg.val_evaluator = dict(), full.val_evaluator
    options = dict(max_iters=2, val_interval=2)
    cfg.merge_from_dict({'global_batch_size': 8, 'train_cfg': options, 'default_hooks.probe.interval': 2})
    cfg.default_hooks.checkpoint = dict(type='mmmim.CheckpointHook', by_epoch=False, interval=2, save_best='loss')
    cfg.default_hooks.checkpoint.rule = 'less'
    cfg.custom_hooks.append(dict(type='mmmim.PicturesHook', images=2))
    cfg.dump(tmp_path / 'tiny.py')

    strategy = ('--cfg-options', 'strategy.type=mmmim.FSDP2Strategy')
    output = script('dist_train.sh', 'tiny.py', 2, *strategy, cwd=tmp_path)
    assert output.count('Health [') == 2
    assert 'Traceback' not in output
    assert {path.name for path in (tmp_path / 'out').glob('*.png')} == {'features.png'}
    assert {path.name for path in (tmp_path / 'out').glob('*.pth')} == {'iter_2.pth', 'best_loss_iter_2.pth'}

    checkpoint = torch.load(tmp_path / 'out' / 'iter_2.pth', weights_only=True)
    model = MODELS.build(cfg.model)
    model.load_state_dict(checkpoint['state_dict'])
    data = LabelledImages.read(DATASETS.build(labelled))
    row = json.loads((tmp_path / 'out' / 'probes.json').read_text())[-1]
    for name, extract in encoders(model).items():
        for key, value in quick_scores(extract, data, data, ('all', 'pooled')).items():
            assert row[f'{name}_{key}'] == pytest.approx(value)


@on_cpu
@pytest.mark.slow
def test_two_processes_train_and_test_a_segmentor(tmp_path, fashion_scenes):
    """The score is that of one process."""
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/fashion_scenes').symlink_to(fashion_scenes)
    save_model(tmp_path / 'a.pth', capi_config())
    config, segmentor = ROOT / 'configs/eval/seg_linear_fashion.py', tmp_path / 'run/iter_2.pth'
    # An odd number of images: one of the processes gets an image that the other has, too.
    options = 'global_batch_size=8 train_cfg.max_iters=2 train_cfg.val_interval=2 param_scheduler.warmup.end=1'
    options += ' param_scheduler.decay.begin=1 default_hooks.checkpoint.interval=2'
    options += ' +train_dataloader.dataset.dataset.indices=16 +val_dataloader.dataset.indices=13'
    arguments = ['--pretrained', 'a.pth', '--work-dir', 'run', '--cfg-options', *options.split()]
    output = script('dist_train.sh', config, 2, *arguments, cwd=tmp_path)
    assert '2 process(es) (GPUs) x 4 images = effective batch of 8 images' in output
    assert output.count('Saving checkpoint at 2 iterations') == 1

    test = ['--cfg-options', '+test_dataloader.dataset.indices=13', 'test_dataloader.batch_size=3']
    script('dist_test.sh', config, segmentor, 2, '--work-dir', 'two', '--out', 'two.json', *test, cwd=tmp_path)
    done = run_tool('test.py', config, segmentor, '--work-dir', 'one', '--out', 'one.json', *test, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    two, one = (json.loads((tmp_path / f'{name}.json').read_text()) for name in ('two', 'one'))
    assert two == one
    assert two['mIoU'] > 0


def fake(folder, *names):
    """Programs that print their arguments; variables by which they are found."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
        (folder / name).chmod(0o755)
    return {'PYTHON': str(folder / 'python'), 'PATH': f'{folder}:{os.environ["PATH"]}'}


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh'])
def test_usage(name, tmp_path):
    assert os.access(TOOLS / name, os.X_OK)
    assert 'usage:' in script(name, cwd=tmp_path, code=2)
    if shutil.which('shellcheck'):
        subprocess.run(['shellcheck', TOOLS / name], check=True)


def test_commands_of_slurm_and_of_several_machines(tmp_path):
    options = {'GPUS': '2', 'SRUN_ARGS': '--mem 4G', **fake(tmp_path / 'bin', 'srun', 'python')}
    for name in ('slurm_train.sh', 'slurm_test.sh'):
        output = script(name, 'part', 'job', 'a b.py', 'there', '--cfg-options', 'x=1', cwd=tmp_path, **options)
        expected = {'--ntasks=2', '--gres=gpu:2', '--mem', '4G', 'a b.py', 'there', 'slurm', 'x=1'}
        assert expected <= set(output.splitlines())
    options = {**fake(tmp_path / 'bin', 'python'), 'NNODES': '2', 'NODE_RANK': '1', 'MASTER_ADDR': 'host'}
    output = script('dist_train.sh', 'a.py', 8, '--amp', cwd=tmp_path, **options)
    expected = {'--nnodes', '2', '--node-rank', '1', 'host', '29500', '--nproc-per-node', '8', '--amp'}
    assert expected <= set(output.splitlines())


@pytest.mark.parametrize(
    ('name', 'args', 'key', 'value', 'message'),
    [
        *(('dist_train.sh', ['a.py', value], '', '', f"GPUS is '{value}'") for value in ('0', '-1', '1.5', '', '08')),
        *(('dist_test.sh', ['a.py', 'x.pth', value], '', '', f"'{value}' cannot be GPUS") for value in ('-1', 'abc')),
        ('dist_test.sh', ['a.py', 'x.pth', '0'], '', '', "GPUS is '0'"),
        ('dist_test.sh', ['a.py', '0', '--pretrained', 'x'], '', '', "GPUS is '0'"),
        ('dist_train.sh', ['a.py', '2'], 'NNODES', '0', "NNODES is '0'"),
        ('dist_train.sh', ['a.py', '2'], 'NODE_RANK', '2', "'2': give a whole number from 0 to 1"),
        ('dist_test.sh', ['a.py', '2'], 'NODE_RANK', 'a[$(touch hit)]', 'NODE_RANK is'),
        ('dist_train.sh', ['a.py', '2'], 'PORT', '70000', "PORT is '70000'"),
        ('dist_test.sh', ['a.py', '2'], 'PORT', 'http', "PORT is 'http'"),
        *(
            (f'slurm_{name}.sh', ['p', 'j', 'a.py', 'w'], key, value, f"{key} is '{value}'")
            for name in ('train', 'test')
            for key, value in (('GPUS', '0'), ('GPUS', 'abc'), ('GPUS_PER_NODE', '9'), ('CPUS_PER_TASK', '0'))
        ),
        ('slurm_train.sh', ['p', 'j', 'a.py', 'w'], 'SAVE_SECONDS', '1m', "SAVE_SECONDS is '1m'"),
        ('slurm_train.sh', ['p', 'j', 'a.py', 'w'], 'REQUEUE', 'yes', "REQUEUE is 'yes'"),
    ],
)
def test_wrong_numbers(tmp_path, name, args, key, value, message):
    env = {**fake(tmp_path / 'bin', 'python', 'srun'), **({'NNODES': '2'} if key == 'NODE_RANK' else {})}
    lines = script(name, *args, cwd=tmp_path, code=2, **env, **({key: value} if key else {})).splitlines()
    assert message in lines[-1]
    assert lines[-1].startswith('error: ')
    assert not (tmp_path / 'hit').exists()


# Of each call the arguments; of the n-th the n-th status, after saving iter_n.pth unless it is marked with a '!'.
SRUN = """#!/bin/bash
echo "$@" >> calls
read -r now later < statuses
echo "$later" > statuses
[[ $now == *! ]] || { mkdir -p there; echo "iter_$(wc -l < calls).pth" > there/last_checkpoint; }
exit "${now%!}"
"""


def slurm_train(folder, statuses, *args, code, scontrol='exit 0', **env):
    """What was said, and the arguments of every ``srun``."""
    programs = fake(folder / 'bin', 'srun', 'scontrol', 'python')
    (folder / 'bin' / 'srun').write_text(SRUN)
    (folder / 'bin' / 'scontrol').write_text(f'#!/bin/bash\necho "scontrol $@"\n{scontrol}\n')
    (folder / 'statuses').write_text(f'{statuses}\n')
    env = {**programs, 'SLURM_JOB_ID': '', 'SLURM_RESTART_COUNT': '', **env}
    output = script('slurm_train.sh', 'part', 'job', 'a.py', 'there', *args, cwd=folder, code=code, **env)
    return output, (folder / 'calls').read_text().splitlines()


def test_slurm_asks_for_a_signal_and_goes_on_in_a_new_job(tmp_path):
    output, calls = slurm_train(tmp_path, '138 138 0', '--cfg-options', 'x=1', code=0)
    assert len(calls) == 3
    assert all('--signal=USR1@300' in call for call in calls)
    assert calls[0].endswith('--cfg-options x=1')
    assert calls[1].endswith('--cfg-options x=1 --resume')
    assert calls[2] == calls[1]
    assert 'goes on in a new job' in output
    _, calls = slurm_train(tmp_path, 138, code=138, SAVE_SECONDS='60', REQUEUE='0')
    assert len(calls) == 4
    assert '--signal=USR1@60' in calls[3]


@pytest.mark.parametrize('status', [0, 1, 143])
def test_slurm_does_not_go_on_after_anything_else(tmp_path, status):
    """Such as ``scancel``, which sends SIGTERM."""
    assert len(slurm_train(tmp_path, status, code=status)[1]) == 1


def test_slurm_gives_up_where_nothing_is_saved_in_time(tmp_path):
    output, calls = slurm_train(tmp_path, '138 138!', code=138)
    assert len(calls) == 2
    assert 'error: the time of the job was over before anything was saved in there' in output


def test_slurm_requeues_a_batch_job_and_resumes_in_it(tmp_path):
    output, calls = slurm_train(tmp_path, 138, code=138, SLURM_JOB_ID='77')
    assert 'scontrol requeue 77' in output
    assert len(calls) == 1
    _, calls = slurm_train(tmp_path, 0, code=0, SLURM_JOB_ID='77', SLURM_RESTART_COUNT='1')
    assert calls[1].endswith('--launcher slurm --resume')
    # An interactive allocation has no script to start again.
    (tmp_path / 'calls').unlink()
    output, calls = slurm_train(tmp_path, 138, code=138, SLURM_JOB_ID='77', scontrol='exit 1')
    assert len(calls) == 1
    assert 'error: job 77 cannot be requeued' in output
    assert 'with --resume' in output


@pytest.mark.parametrize('checkpoint', [['c d.pth'], []])
def test_test_scripts_with_and_without_a_checkpoint(checkpoint, tmp_path):
    """Protocols that fit their own probe have none."""
    options = fake(tmp_path / 'bin', 'python', 'srun')
    pretrained = ['--pretrained', 'e f.pth', '--encoder', 'timm:vit']
    lines = script('dist_test.sh', 'a b.py', *checkpoint, 3, *pretrained, cwd=tmp_path, **options).splitlines()
    assert lines[lines.index('a b.py') :] == ['a b.py', *checkpoint, '--launcher', 'pytorch', *pretrained]
    assert lines[lines.index('--nproc-per-node') + 1] == '3'
    arguments = ['part', 'job', 'a b.py', *checkpoint, *pretrained]
    lines = script('slurm_test.sh', *arguments, cwd=tmp_path, **options).splitlines()
    start = lines.index('a b.py')
    assert lines[start : start + 7] == [*['a b.py', *checkpoint, *pretrained, '--launcher', 'slurm'][:7]]
    assert 'usage:' in script('dist_test.sh', 'a.py', *checkpoint, cwd=tmp_path, code=2)
