"""What a training reads, overwrites and deletes in its work folder, and what it leaves alone."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from toy_training import toy_config

from mmmim.checkpoints import load_checkpoint_file, save_checkpoint_file
from mmmim.checkpoints.folder import CheckpointFolder
from mmmim.cli.program import user_errors
from mmmim.engine import Runner
from mmmim.utils import InputError
from mmmim.utils.folder_lock import locked
from tests.processes import start_group, wait

BEST = {'interval': 2, 'max_keep_ckpts': 1, 'save_best': 'error', 'rule': 'less'}


def train(work_dir, iterations=4, hook=None, **changes):
    hook = {'interval': 2, 'max_keep_ckpts': 1, **(hook or {})}
    options = {'train_cfg__max_iters': iterations, 'train_cfg__val_interval': 2, 'default_hooks__checkpoint': hook}
    cfg = toy_config(work_dir, **options, **changes)
    cfg.custom_hooks = cfg.custom_hooks[:2]  # no pictures
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def checkpoints(folder):
    return sorted(path.name for path in Path(folder).glob('*.pth*'))


def text(runner):
    return Path(runner.log_dir, f'{runner.timestamp}.log').read_text()


def change(path, **info):
    """Change what a checkpoint says in ``message_hub``, as somebody else's file could."""
    checkpoint = torch.load(path, weights_only=True)
    checkpoint['message_hub']['runtime_info'].update(info)
    checkpoint['message_hub']['resumed_keys'].update(dict.fromkeys(info, True))
    torch.save(checkpoint, path)


@pytest.fixture(scope='module')
def old(tmp_path_factory):
    """A finished training of 4 iterations with its last and its best checkpoint."""
    folder = tmp_path_factory.mktemp('old')
    train(folder, hook=BEST)
    assert [name.startswith('best_') for name in checkpoints(folder)] == [True, False]
    return folder


@pytest.fixture
def used(old, tmp_path):
    """A copy of it, with the times of its files, as the record has them."""
    shutil.copytree(old, tmp_path / 'used')
    return tmp_path / 'used'


# Paths in files.


def test_another_runs_best_checkpoint_survives(used, tmp_path):
    before = {name: (used / name).read_bytes() for name in checkpoints(used)}
    change(used / 'iter_4.pth', best_score=1e9)  # so that the next validation is a better one
    before['iter_4.pth'] = (used / 'iter_4.pth').read_bytes()
    runner = train(tmp_path / 'new', 6, BEST, resume=True, load_from=str(used / 'iter_4.pth'))
    assert {name: (used / name).read_bytes() for name in checkpoints(used)} == before
    assert checkpoints(tmp_path / 'new') == ['best_error_iter_6.pth', 'iter_6.pth']
    assert 'The best checkpoint so far lies elsewhere' in text(runner)


def test_the_best_score_is_known_in_a_new_folder(used, tmp_path):
    change(used / 'iter_4.pth', best_score=-1.0)  # none is better
    train(tmp_path / 'new', 6, BEST, resume=True, load_from=str(used / 'iter_4.pth'))
    assert checkpoints(tmp_path / 'new') == ['iter_6.pth']


def test_the_best_checkpoint_of_a_resumed_training_is_replaced(used):
    [best] = [name for name in checkpoints(used) if name.startswith('best_')]
    change(used / 'iter_4.pth', best_score=1e9, best_ckpt='/nowhere')
    train(used, 6, BEST, resume='auto')
    assert best not in checkpoints(used)
    assert 'best_error_iter_6.pth' in checkpoints(used)


@pytest.mark.parametrize('several', [False, True])
def test_no_stored_path_is_deleted(used, tmp_path, several):
    victim = tmp_path / 'victim.txt'
    victim.write_text('mine')
    mine = used / 'iter_2.pth'  # beside the checkpoints, and not this training's
    save_checkpoint_file({'mine': 1}, mine)
    stored = {f'best_ckpt{suffix}': str(victim) for suffix in ('', '_error', '_loss')}
    change(used / 'iter_4.pth', **stored, best_score=1e9, last_ckpt=str(victim), keep_ckpt_ids=[2, '../../victim', 4])
    hook = {**BEST, 'save_best': ['error', 'loss']} if several else BEST
    if several:
        with pytest.raises(InputError, match=r"save_best .* is 'loss', and the validation gives error"):
            train(used, 6, hook, resume='auto')
    else:
        train(used, 6, hook, resume='auto')
    assert victim.read_text() == 'mine'
    assert load_checkpoint_file(mine) == {'mine': 1}


@pytest.mark.parametrize('score', ['text', float('nan'), None, [1]])
def test_a_stored_best_score_that_is_no_number(used, score):
    change(used / 'iter_4.pth', best_score=score)
    runner = train(used, 6, BEST, resume='auto')
    assert 'no number' in text(runner)
    assert 'best_error_iter_6.pth' in checkpoints(used)


@pytest.mark.parametrize(
    'record',
    [
        '{"written": {"../victim.txt": [[4, 0]], "/etc/passwd": [[4, 0]], "iter_2.pth": [[4, 0]]}}',
        '{"written": {"iter_2.pth": "x"}}',
        '{"written": 3}',
        '[]',
        '[' * 100_000,
        '{broken',
        '',
    ],
)
def test_a_record_deletes_nothing_else(used, tmp_path, record):
    """A forged or damaged record: files that differ from it stay, and those that it does not name."""
    victim = tmp_path / 'victim.txt'
    victim.write_text('mine')
    (used / 'iter_2.pth').write_text('mine')
    (used / 'checkpoints.json').write_text(record)
    before = checkpoints(used)
    runner = train(used, 6, resume='auto')
    assert runner.iter == 6
    assert victim.read_text() == (used / 'iter_2.pth').read_text() == 'mine'
    assert set(before) < set(checkpoints(used))


@pytest.mark.parametrize('pointer', [b'\xff\xfe\x00', b'../iter_2.pth', b'/etc/passwd', b'', b'\n\n', b'iter_4.pth/..'])
def test_a_pointer_that_names_nothing_here(used, pointer):
    (used / 'last_checkpoint').write_bytes(pointer)
    save_checkpoint_file({'outside': 1}, used.parent / 'iter_2.pth')
    runner = train(used, 6, resume='auto')
    assert re.search(r'Resumed .*used/iter_4\.pth', text(runner))
    assert 'going on from iter_4.pth, the newest checkpoint that loads' in text(runner)


def test_pipes_and_links_out_of_the_folder_are_not_read(used):
    os.mkfifo(used / 'iter_7.pth')
    outside = used.parent / 'outside.pth'
    shutil.copy(used / 'iter_4.pth', outside)
    (used / 'iter_8.pth').symlink_to(outside)
    for name in ('last_checkpoint', 'checkpoints.json'):
        (used / name).unlink()
        os.mkfifo(used / name)
    folder = CheckpointFolder(used)
    assert folder.find_latest()[0] == str(used / 'iter_4.pth')
    folder.take_over()
    assert folder.steps() == []


# What is resumed.


def test_resumes_without_a_pointer(used):
    (used / 'last_checkpoint').unlink()
    runner = train(used, 6, resume='auto')
    assert re.search(r'last_checkpoint is missing: going on from iter_4\.pth', text(runner))
    assert runner.iter == 6


@pytest.mark.parametrize('damage', [b'', b'text', None])
def test_resumes_the_newest_that_loads(tmp_path, damage):
    train(tmp_path, 6, {'max_keep_ckpts': 3})
    newest = tmp_path / 'iter_6.pth'
    newest.write_bytes(newest.read_bytes()[:-3000] if damage is None else damage)
    broken = newest.read_bytes()
    runner = train(tmp_path, 8, {'max_keep_ckpts': 3}, resume='auto')
    assert re.search(r'WARNING.*iter_6\.pth is damaged.*Going on from .*iter_4\.pth instead', text(runner))
    assert 'iteration 4.' in text(runner)
    # It has been changed since it was written, so it is not this training's to overwrite.
    assert (tmp_path / 'iter_6.pth.earlier').read_bytes() == broken
    assert checkpoints(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth', 'iter_6.pth.earlier', 'iter_8.pth'][1:]


@pytest.mark.parametrize('where', ['weight', 'moment'])
def test_a_newest_checkpoint_that_is_not_finite(tmp_path, where):
    train(tmp_path, 4, {'max_keep_ckpts': 2})
    checkpoint = torch.load(tmp_path / 'iter_4.pth', weights_only=True)
    tensor = (
        checkpoint['state_dict']['out.weight'] if where == 'weight' else checkpoint['optimizer']['state'][0]['exp_avg']
    )
    tensor.view(-1)[0] = float('nan')
    torch.save(checkpoint, tmp_path / 'iter_4.pth')
    runner = train(tmp_path, 6, {'max_keep_ckpts': 2}, resume='auto')
    assert re.search(r'iter_4\.pth holds wrong values.*Going on from .*iter_2\.pth instead', text(runner))
    assert torch.isfinite(runner.model.out.weight).all()


def test_no_checkpoint_loads(used):
    for path in used.glob('iter_*.pth'):
        path.write_bytes(b'text')
    (used / 'iter_1.pth').write_bytes(b'')
    before = {path.name: path.read_bytes() for path in used.glob('*.pth')}
    with pytest.raises(InputError, match=r'iter_4\.pth is damaged.*Nor does any other.*iter_1\.pth.*--work-dir'):
        train(used, 6, resume='auto')
    for path in used.glob('iter_*.pth'):
        path.unlink()
    with pytest.raises(InputError, match=r'holds no checkpoint that can be resumed, only best_error'):
        train(used, 6, resume='auto')
    for path in used.glob('*.pth'):
        assert path.read_bytes() == before[path.name]


def test_order_of_writing_counts_where_it_is_known(tmp_path):
    """After going back to an earlier checkpoint, the newest is the one written last, not the one of most iterations."""
    train(tmp_path, 6, {'max_keep_ckpts': -1})
    train(tmp_path, 4, {'max_keep_ckpts': -1}, resume=True, load_from=str(tmp_path / 'iter_2.pth'))
    assert CheckpointFolder(tmp_path).find_latest()[0] == str(tmp_path / 'iter_4.pth')
    (tmp_path / 'checkpoints.json').unlink()
    assert CheckpointFolder(tmp_path).find_latest()[0] == str(tmp_path / 'iter_6.pth')


def test_a_stale_pointer(tmp_path):
    """Killed after a checkpoint had its name and before the pointer had its."""
    train(tmp_path, 4, {'max_keep_ckpts': 2})
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_2.pth'))
    runner = train(tmp_path, 6, {'max_keep_ckpts': 2}, resume='auto')
    assert 'iteration 4.' in text(runner)


def test_other_names_and_another_folder(tmp_path):
    hook = {'filename_tmpl': 'step-{}.pth', 'out_dir': str(tmp_path / 'disk'), 'max_keep_ckpts': 1}
    train(tmp_path / 'work', 4, hook)
    assert checkpoints(tmp_path / 'disk/work') == ['step-4.pth']
    assert checkpoints(tmp_path / 'work') == []
    with pytest.raises(InputError, match=r'disk/work holds checkpoints of an earlier training \(step-4\.pth\)'):
        train(tmp_path / 'work', 4, hook)
    runner = train(tmp_path / 'work', 6, hook, resume='auto')
    assert 'iteration 4.' in text(runner)
    assert checkpoints(tmp_path / 'disk/work') == ['step-6.pth']
    assert os.listdir(tmp_path / 'disk') == ['work']


@pytest.mark.parametrize('name', ['../iter_{}.pth', 'iter.pth', 'a_{}_{}.pth', '/iter_{}.pth'])
def test_templates_that_name_no_file_of_the_folder(tmp_path, name):
    with pytest.raises(InputError, match='filename_tmpl'):
        train(tmp_path, hook={'filename_tmpl': name})


# What is overwritten and deleted.


def test_a_fresh_training_in_a_used_folder_is_refused(used):
    before = {path: path.read_bytes() for path in used.rglob('*') if path.is_file()}
    for options in ({}, {'load_from': str(used / 'iter_4.pth')}):
        with pytest.raises(InputError, match=r'used holds checkpoints .*iter_4\.pth.*--resume.*--work-dir'):
            train(used, 6, **options)
    assert {path: path.read_bytes() for path in before} == before
    assert checkpoints(used) == [path.name for path in sorted(before) if '.pth' in path.name]


def test_the_same_training_goes_on_in_its_folder(tmp_path):
    runner = train(tmp_path, 4)
    runner.train()
    assert checkpoints(tmp_path) == ['iter_4.pth']


def test_another_folders_training_is_not_resumed_into_a_used_one(used, old):
    with pytest.raises(InputError, match='holds checkpoints of an earlier training'):
        train(used, 6, resume=True, load_from=str(old / 'iter_4.pth'))


def test_own_files_of_the_user_are_no_reason_to_refuse(tmp_path):
    for name in ('encoder.pth', 'my_5.pth', 'best.pth', 'iter_9.txt'):
        (tmp_path / name).write_text('mine')
    train(tmp_path, 4)
    assert checkpoints(tmp_path) == ['best.pth', 'encoder.pth', 'iter_4.pth', 'my_5.pth']


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    runner = Runner.from_cfg(toy_config(tmp_path, train_cfg__max_iters=4))
    original = runner.save_checkpoint

    def save(folder, filename, *args, **kwargs):
        for path in (tmp_path / filename, tmp_path / f'{filename}.earlier'):
            path.write_text('mine')
        original(folder, filename, *args, **kwargs)

    runner.save_checkpoint = save
    runner.train()
    assert load_checkpoint_file(tmp_path / 'iter_4.pth')['meta']['iter'] == 4
    assert [(tmp_path / f'iter_4.pth.earlier{n}').read_text() for n in ('', '1')] == ['mine', 'mine']
    assert 'iter_4.pth that this training has not written' in text(runner)


def test_what_a_kill_left_is_removed_at_the_next_start(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, 'remove', lambda *args: os._exit(9))  # before the outdated one is removed
        child = os.fork()
        if child == 0:
            try:
                train(tmp_path, 8)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert checkpoints(tmp_path) == ['iter_2.pth', 'iter_4.pth']
    leftovers = [
        'iter_6.pth.77-0123abcd.tmp',
        'last_checkpoint.77-0123abcd.tmp',
        'best_error_iter_6.pth.7-01234567.tmp',
    ]
    mine = ['notes.txt.77-0123abcd.tmp', 'iter_6.pth.tmp', 'a.tmp']
    for name in leftovers + mine:
        (tmp_path / name).write_text('')
    runner = train(tmp_path, 6, resume='auto')
    assert 'iteration 4.' in text(runner)
    assert 'Removed iter_2.pth, which was outdated' in text(runner)
    assert checkpoints(tmp_path) == ['iter_6.pth', 'iter_6.pth.tmp']
    assert not any((tmp_path / name).exists() for name in leftovers)
    assert all((tmp_path / name).exists() for name in mine)


def test_a_kill_between_record_and_rename(tmp_path, monkeypatch):
    """The checkpoint that was there under the same name is still this training's."""
    train(tmp_path, 4, {'max_keep_ckpts': 1})
    child = os.fork()
    if child == 0:
        folder = CheckpointFolder(tmp_path)
        folder.take_over()
        real = os.replace
        os.replace = lambda a, b: real(a, b) if str(b).endswith('.json') else os._exit(9)
        folder.save({'new': torch.zeros(1)}, 'iter_4.pth')
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    folder = CheckpointFolder(tmp_path)
    folder.take_over()
    assert folder.owns('iter_4.pth')
    assert load_checkpoint_file(tmp_path / 'iter_4.pth')['meta']['iter'] == 4


def test_a_replaced_checkpoint_is_not_this_trainings(used, tmp_path):
    train(tmp_path / 'other', 4, randomness__seed=1)
    shutil.copy2(tmp_path / 'other/iter_4.pth', used / 'iter_4.pth')
    other = (used / 'iter_4.pth').read_bytes()
    train(used, 6, resume='auto')
    assert (used / 'iter_4.pth').read_bytes() == other
    assert json.loads((used / 'checkpoints.json').read_text())['written'].keys() >= {'iter_6.pth'}


def test_published_parts(tmp_path):
    train(tmp_path, 2, {'published_keys': ['state_dict', 'meta']})
    [published] = [name for name in checkpoints(tmp_path) if re.fullmatch(r'iter_2-[0-9a-f]{8}\.pth', name)]
    assert sorted(load_checkpoint_file(tmp_path / published)) == ['meta', 'state_dict']


# Several processes.


def test_two_processes_agree(tmp_path):
    """The first decides what is resumed; a refusal is everybody's; the lock is the first one's and goes at the end."""
    train(tmp_path / 'run', 4, {'max_keep_ckpts': 2})
    (tmp_path / 'run/iter_4.pth').write_bytes(b'damaged')

    def attempt(**changes):
        with user_errors():
            runner = train(tmp_path / 'run', 6, {'max_keep_ckpts': 2}, launcher='pytorch', **changes)
            print(f'process {runner.rank} at the end: {float(runner.model.module.out.weight.detach().sum())!r}')

    def statuses(**changes):
        return [wait(process) for process in start_group(lambda: attempt(**changes), tmp_path / 'log', 2)]

    assert statuses() == [2, 2]
    said = (tmp_path / 'log').read_text()
    assert f'error: {tmp_path}/run holds checkpoints of an earlier training' in said
    assert 'Traceback' not in said
    with locked(tmp_path / 'run'):
        assert statuses(resume='auto') == [2, 2]
    assert 'is in use by another training' in (tmp_path / 'log').read_text()
    assert not (tmp_path / 'run/.lock').exists()
    assert statuses(resume='auto') == [0, 0]
    said = (tmp_path / 'log').read_text()
    assert re.search(r'iter_4\.pth is damaged.*Going on from .*iter_2\.pth', said)
    [first, second] = sorted(re.findall(r'process (\d) at the end: (\S+)', said))
    assert first[1] == second[1]
    assert not (tmp_path / 'run/.lock').exists()
