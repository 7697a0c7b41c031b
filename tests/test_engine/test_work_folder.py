"""What a training reads, overwrites and deletes in its work folder, and what it leaves alone."""

import os
import re
import shutil

import pytest
import torch

from mmmim.checkpoints import load_checkpoint_file, save_checkpoint_file
from mmmim.checkpoints.folder import CheckpointFolder
from mmmim.cli.program import user_errors
from mmmim.engine import Runner
from mmmim.utils import InputError
from mmmim.utils.folder_lock import locked
from tests.processes import start, start_group, wait
from tests.runs import At, load, log_of, names
from tests.test_engine.toy_training import toy_config

BEST = {'save_best': 'error', 'rule': 'less'}
TWO = {'max_keep_ckpts': 2}


def make(work_dir, iterations=4, hook=None, **changes):
    hook = {'interval': 2, 'max_keep_ckpts': 1, **(hook or {})}
    options = {'train_cfg__max_iters': iterations, 'train_cfg__val_interval': 2, 'default_hooks__checkpoint': hook}
    cfg = toy_config(work_dir, **options, **changes)
    cfg.custom_hooks = cfg.custom_hooks[:2]  # no pictures
    return Runner.from_cfg(cfg)


def train(*args, **changes):
    runner = make(*args, **changes)
    runner.train()
    return runner


def resume(work_dir, iterations=6, hook=None, **changes):
    return train(work_dir, iterations, hook, resume='auto', **changes)


def refused(message, *args, **changes):
    with pytest.raises(InputError, match=message):
        train(*args, **changes)


def checkpoints(folder):
    return names(folder, '*.pth*')


def content(folder):
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def change(path, **info):
    """Change what a checkpoint says in ``message_hub``, as somebody else's file could."""
    checkpoint = load(path)
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


@pytest.mark.parametrize(('score', 'best'), [(1e9, ['best_error_iter_6.pth']), (-1.0, [])])
def test_another_runs_best_checkpoint_survives(used, tmp_path, score, best):
    """Its score is known, and a better one is saved in the new folder."""
    change(used / 'iter_4.pth', best_score=score)
    before = content(used)
    runner = train(tmp_path / 'new', 6, BEST, resume=True, load_from=str(used / 'iter_4.pth'))
    assert content(used) == before
    assert checkpoints(tmp_path / 'new') == [*best, 'iter_6.pth']
    assert 'The best checkpoint so far lies elsewhere' in log_of(runner)


def test_no_stored_path_is_deleted(used, tmp_path):
    """The best checkpoint of the record is replaced by a better one, and nothing that the checkpoint names."""
    victim = tmp_path / 'victim.txt'
    victim.write_text('mine')
    mine = used / 'iter_2.pth'  # beside the checkpoints, and not this training's
    save_checkpoint_file({'mine': 1}, mine)
    (best,) = names(used, 'best_*')
    stored = {f'best_ckpt{suffix}': str(victim) for suffix in ('', '_error', '_loss')}
    change(used / 'iter_4.pth', **stored, best_score=1e9, last_ckpt=str(victim), keep_ckpt_ids=[2, '../../victim', 4])
    several = {**BEST, 'save_best': ['error', 'loss']}
    refused(r"save_best .* is 'loss', and the validation gives error", used, 6, several, resume='auto')
    resume(used, 8, BEST)
    assert victim.read_text() == 'mine'
    assert load_checkpoint_file(mine) == {'mine': 1}
    assert [name for name in checkpoints(used) if name.startswith('best_')] == ['best_error_iter_8.pth'] != [best]


@pytest.mark.parametrize('score', [float('nan'), [1]])
def test_a_stored_best_score_that_is_no_number(used, score):
    change(used / 'iter_4.pth', best_score=score)
    assert 'no number' in log_of(resume(used, 6, BEST))
    assert 'best_error_iter_6.pth' in checkpoints(used)


FORGED = '{"written": {"../victim.txt": [[4, 0]], "/etc/passwd": [[4, 0]], "iter_2.pth": [[4, 0]]}}'


@pytest.mark.parametrize('record', [FORGED, '{"written": {"iter_2.pth": "x"}}', '{"written": 3}', '[]', '[' * 100_000])
def test_a_record_deletes_nothing_else(used, tmp_path, record):
    """A forged or damaged record: files that differ from it stay, and those that it does not name."""
    mine = (tmp_path / 'victim.txt', used / 'iter_2.pth')
    for path in mine:
        path.write_text('mine')
    (used / 'checkpoints.json').write_text(record)
    before = checkpoints(used)
    assert resume(used).iter == 6
    assert all(path.read_text() == 'mine' for path in mine)
    assert set(before) < set(checkpoints(used))


def test_a_pointer_that_names_nothing_here(used):
    """Or the checkpoint before, as of a training that was killed between the names of a checkpoint and its pointer."""
    shutil.copy(used / 'iter_4.pth', used / 'iter_3.pth')
    save_checkpoint_file({'outside': 1}, used.parent / 'iter_2.pth')
    for pointer in (b'\xff\xfe\x00', b'../iter_2.pth', b'/etc/passwd', b'\n\n', b'iter_4.pth/..', b'iter_3.pth', None):
        (used / 'last_checkpoint').unlink()
        if pointer is not None:
            (used / 'last_checkpoint').write_bytes(pointer)
        path, (remark,) = CheckpointFolder(used).find_latest()
        assert path == str(used / 'iter_4.pth')
        assert 'going on from iter_4.pth, the newest checkpoint that loads' in remark
        assert ('is missing' in remark) == (pointer is None)
    runner = resume(used)
    assert remark in log_of(runner)
    assert re.search(r'Resumed .*used/iter_4\.pth', log_of(runner))
    assert runner.iter == 6


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


def test_resumes_the_newest_that_loads(tmp_path):
    keep = {'max_keep_ckpts': 3}
    train(tmp_path, 6, keep)
    newest = tmp_path / 'iter_6.pth'
    for damage in (b'', b'text', newest.read_bytes()[:-3000]):
        newest.write_bytes(damage)
        path, (remark,) = CheckpointFolder(tmp_path).find_latest()
        assert path == str(tmp_path / 'iter_4.pth')
        assert re.search(r'iter_6\.pth is damaged.*Going on from .*iter_4\.pth instead', remark)
    runner = resume(tmp_path, 8, keep)
    assert re.search(r'WARNING.*iter_6\.pth is damaged', log_of(runner))
    assert 'iteration 4.' in log_of(runner)
    # It has been changed since it was written, so it is not this training's to overwrite.
    assert (tmp_path / 'iter_6.pth.earlier').read_bytes() == damage
    assert checkpoints(tmp_path) == ['iter_4.pth', 'iter_6.pth', 'iter_6.pth.earlier', 'iter_8.pth']


@pytest.mark.parametrize('where', ['weight', 'moment'])
def test_a_newest_checkpoint_that_is_not_finite(tmp_path, where):
    train(tmp_path, 4, TWO)
    checkpoint = load(tmp_path / 'iter_4.pth')
    weight, moment = checkpoint['state_dict']['out.weight'], checkpoint['optimizer']['state'][0]['exp_avg']
    (weight if where == 'weight' else moment).view(-1)[0] = float('nan')
    torch.save(checkpoint, tmp_path / 'iter_4.pth')
    words = log_of(resume(tmp_path, 6, TWO))
    assert re.search(r'iter_4\.pth holds wrong values.*Going on from .*iter_2\.pth instead', words)


def test_no_checkpoint_loads(used):
    for path in (*used.glob('iter_*.pth'), used / 'iter_1.pth'):
        path.write_bytes(b'text')
    before = {path: path.read_bytes() for path in used.glob('*.pth')}
    refused(r'iter_4\.pth is damaged.*Nor does any other.*iter_1\.pth.*--work-dir', used, 6, resume='auto')
    assert all(path.read_bytes() == data for path, data in before.items())
    for path in used.glob('iter_*.pth'):
        path.unlink()
    refused(r'holds no checkpoint that can be resumed, only best_error', used, 6, resume='auto')


def test_order_of_writing_counts_where_it_is_known(tmp_path):
    """After going back to an earlier checkpoint, the newest is the one written last, not the one of most iterations."""
    train(tmp_path, 6, {'max_keep_ckpts': -1})
    train(tmp_path, 4, {'max_keep_ckpts': -1}, resume=True, load_from=str(tmp_path / 'iter_2.pth'))
    assert CheckpointFolder(tmp_path).find_latest()[0] == str(tmp_path / 'iter_4.pth')
    (tmp_path / 'checkpoints.json').unlink()
    assert CheckpointFolder(tmp_path).find_latest()[0] == str(tmp_path / 'iter_6.pth')


def test_other_names_and_another_folder(tmp_path):
    hook = {'filename_tmpl': 'step-{}.pth', 'out_dir': str(tmp_path / 'disk')}
    train(tmp_path / 'work', 4, hook)
    assert (checkpoints(tmp_path / 'disk/work'), checkpoints(tmp_path / 'work')) == (['step-4.pth'], [])
    refused(r'disk/work holds checkpoints of an earlier training \(step-4\.pth\)', tmp_path / 'work', 4, hook)
    assert 'iteration 4.' in log_of(resume(tmp_path / 'work', 6, hook))
    assert checkpoints(tmp_path / 'disk/work') == ['step-6.pth']
    assert os.listdir(tmp_path / 'disk') == ['work']
    for name in ('../iter_{}.pth', 'iter.pth', 'a_{}_{}.pth', '/iter_{}.pth'):
        with pytest.raises(InputError, match='filename_tmpl'):
            CheckpointFolder(tmp_path, name)


# What is overwritten and deleted.


def test_a_fresh_training_in_a_used_folder_is_refused(used, old):
    """And one that goes on from a checkpoint of another folder."""
    before = content(used)
    of_old = {'load_from': str(old / 'iter_4.pth')}
    for options in ({}, {'load_from': str(used / 'iter_4.pth')}, of_old, {**of_old, 'resume': True}):
        refused(r'used holds checkpoints .*iter_4\.pth.*--resume.*--work-dir', used, 6, **options)
    assert before.items() <= content(used).items()
    assert checkpoints(used) == [path.name for path in sorted(before) if '.pth' in path.name]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path):
    def write(runner):
        for name in ('iter_2.pth', 'iter_2.pth.earlier'):
            (tmp_path / name).write_text('mine')

    (tmp_path / 'my_5.pth').write_text('mine')  # no reason to refuse the folder
    runner = make(tmp_path, 2)
    runner.register_hook(At(before_save_checkpoint=(None, write)))
    runner.train()
    assert load_checkpoint_file(tmp_path / 'iter_2.pth')['meta']['iter'] == 2
    assert [(tmp_path / f'iter_2.pth.earlier{n}').read_text() for n in ('', '1')] == ['mine', 'mine']
    assert 'iter_2.pth that this training has not written' in log_of(runner)


def test_what_a_kill_left_is_removed_at_the_next_start(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, 'remove', lambda *args: os._exit(9))  # before the outdated one is removed
        assert wait(start(lambda: train(tmp_path, 8), os.devnull)) == 9
    assert checkpoints(tmp_path) == ['iter_2.pth', 'iter_4.pth']
    leftovers = [f'{name}.77-0123abcd.tmp' for name in ('iter_6.pth', 'last_checkpoint', 'best_error_iter_6.pth')]
    mine = ['notes.txt.77-0123abcd.tmp', 'iter_6.pth.tmp', 'a.tmp']
    for name in leftovers + mine:
        (tmp_path / name).write_text('')
    runner = resume(tmp_path)
    assert 'iteration 4.' in log_of(runner)
    assert 'Removed iter_2.pth, which was outdated' in log_of(runner)
    assert checkpoints(tmp_path) == ['iter_6.pth', 'iter_6.pth.tmp']
    assert sorted(mine) == names(tmp_path, '*.tmp')


def test_a_kill_between_record_and_rename(used, monkeypatch):
    """The checkpoint that was there under the same name is still this training's."""
    folder, real = CheckpointFolder(used), os.replace
    folder.take_over()
    monkeypatch.setattr(os, 'replace', lambda a, b: real(a, b) if str(b).endswith('.json') else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        folder.save({'new': torch.zeros(1)}, 'iter_4.pth')
    folder = CheckpointFolder(used)
    folder.take_over()
    assert folder.owns('iter_4.pth')


def test_published_parts(tmp_path):
    train(tmp_path, 2, {'published_keys': ['state_dict', 'meta']})
    [published] = [name for name in checkpoints(tmp_path) if re.fullmatch(r'iter_2-[0-9a-f]{8}\.pth', name)]
    assert sorted(load_checkpoint_file(tmp_path / published)) == ['meta', 'state_dict']


# Several processes.


def test_two_processes_agree(tmp_path):
    """The first decides what is resumed; a refusal is everybody's; the lock is the first one's and goes at the end."""
    folder, log = tmp_path / 'run', tmp_path / 'log'
    train(folder, 4, TWO)
    (folder / 'iter_4.pth').write_bytes(b'damaged')

    def said(statuses, **changes):
        def attempt():
            with user_errors():
                runner = train(folder, 6, TWO, launcher='pytorch', **changes)
                print(f'process {runner.rank} at the end: {float(runner.model.module.out.weight.detach().sum())!r}')

        assert [wait(process) for process in start_group(attempt, log, 2)] == statuses
        assert 'Traceback' not in log.read_text()
        return log.read_text()

    assert f'error: {folder} holds checkpoints of an earlier training' in said([2, 2])
    with locked(folder):
        assert 'is in use by another training' in said([2, 2], resume='auto')
    assert not (folder / '.lock').exists()
    words = said([0, 0], resume='auto')
    assert re.search(r'iter_4\.pth is damaged.*Going on from .*iter_2\.pth', words)
    [first, second] = sorted(re.findall(r'process (\d) at the end: (\S+)', words))
    assert first[1] == second[1]
    assert not (folder / '.lock').exists()
