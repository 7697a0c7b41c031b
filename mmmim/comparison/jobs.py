"""Several methods, several seeds, one table: jobs that train and score, and what comes of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmmim.comparison.record import arm_config, arm_hash, digest, option_words, read_runs
from mmmim.comparison.tables import Results
from mmmim.config.read import load_config
from mmmim.config.resources import repository, resources
from mmmim.utils import InputError
from mmmim.utils.atomic import write_text_atomically
from mmmim.utils.signals import Stopped, name_of

#: Where commands run: the repository, or the current folder when mmmim is installed without it.
ROOT = repository() or Path.cwd()

#: Among the scores of what is trained: processor time of the training.
MINUTES = 'train_minutes'


@dataclass
class Job:
    """A training and its scores, as commands that run one after the other.

    Attributes:
        subset: Subset of the data that the job is about.
        arm: What is compared.
        seed: Seed of the run.
        folder: Where it writes.
        commands: Each a list of words; trainings among them go on where they were interrupted.
        made_by: A hash of what makes its scores.
        trained: Where its training writes, if there is one.
        trained_by: A hash of what makes its training.
        scores: The file that the last command writes; other configs, seeds or options of scores have one of their own.
        process: Process of the command that runs, if one does.
    """

    subset: str
    arm: str
    seed: int
    folder: Path
    commands: list[list[str]] = field(default_factory=list)
    made_by: str = ''
    trained: Path | None = None
    trained_by: str = ''
    process: subprocess.Popen | None = field(default=None, repr=False, compare=False)

    @property
    def scores(self) -> Path:
        """What the last command writes."""
        return self.folder / f'scores_{self.made_by}.json'

    def claim(self) -> None:
        """Say in the folder of the training which config it is of.

        Raises:
            InputError: It holds a training of another one, or of one that it does not tell.
        """
        if self.trained is None:
            return
        label = self.trained / 'config_hash.txt'
        if not label.exists() and not any(self.trained.glob('iter_*')):
            self.trained.mkdir(parents=True, exist_ok=True)
            label.write_text(self.trained_by)
        if not label.exists() or label.read_text() != self.trained_by:
            raise InputError(
                f'{self.trained} holds a training of another config than {self.subset}, {self.arm} has now: '
                'remove it, or use another --work-dir.'
            )

    def run(self) -> float:
        """Run the commands, one thread each; returns seconds.

        Raises:
            InputError: A command failed; its log is named. Or the folder holds another training.
        """
        self.claim()
        start = time.perf_counter()
        self.folder.mkdir(parents=True, exist_ok=True)
        # One thread per job: jobs side by side use the cores better than threads of one job.
        env = {**os.environ, 'OMP_NUM_THREADS': '1'}
        log = self.folder / 'log.txt'
        for i, command in enumerate(self.commands):
            with open(log, 'a') as file:
                self.process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file)
                code, seconds = wait(self.process)
            if self.trained is not None and i == 0:
                self._add_seconds(seconds)
            if code:
                last = '\n'.join(log.read_text().splitlines()[-5:])
                raise InputError(f'{self.subset}, {self.arm}, seed {self.seed} failed; its log {log} ends in:\n{last}')
        if self.trained is not None:
            scores = json.loads(self.scores.read_text())
            scores[MINUTES] = self._add_seconds(0) / 60
            write_text_atomically(json.dumps(scores, indent=2) + '\n', str(self.scores))
        return time.perf_counter() - start

    def _add_seconds(self, seconds: float) -> float:
        """Keep the processor time of a training that may be interrupted; returns all of it."""
        assert self.trained is not None
        file = self.trained / 'seconds.txt'
        total = seconds + (float(file.read_text()) if file.exists() else 0)
        file.write_text(f'{total}\n')
        return total


def wait(process: subprocess.Popen) -> tuple[int, float]:
    """Wait for a process; returns its exit status, and the processor time that it and its children took, in seconds."""
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except ChildProcessError:  # somebody stopped it, and learned of its end
        return process.wait(), 0.0
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_utime + usage.ru_stime


def restore(jobs: Sequence[Job], record: Path) -> int:
    """Take the scores of runs from a record, where they were made by the same config, seed and options.

    Args:
        jobs: Jobs, of which those without scores get them.
        record: A ``results.json`` that this program has written, of finished or unfinished comparisons.

    Returns:
        How many jobs it has filled.

    Raises:
        InputError: The file is no such record.
    """
    runs = read_runs(record)
    found = [job for job in jobs if not job.scores.exists() and job.made_by in runs]
    for job in found:
        job.folder.mkdir(parents=True, exist_ok=True)
        write_text_atomically(json.dumps(runs[job.made_by], indent=2) + '\n', str(job.scores))
    return len(found)


def run_command(command: Sequence[str], folder: Path) -> int:
    """Run a command; returns its exit status.

    A signal that stops this process is handed on, and the command waited for: a training among them saves, where
    ``subprocess.run`` kills it.

    Args:
        command: Words of the command line, the program first.
        folder: Where it runs.
    """
    with subprocess.Popen(command, cwd=folder) as process:
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            process.wait()
            raise


def prepare(files: Mapping[str, Sequence[str]]) -> None:
    """Write what a specification names, where it is missing: what its arms need (``prepare``), or :func:`pictures`.

    Args:
        files: Words of the command that writes a file, a tool first, by the path of the file from the repository's
            root.

    Raises:
        InputError: A command failed or wrote something else.
    """
    for file, command in files.items():
        if (ROOT / file).exists():
            continue
        print(f'{file} is written by {" ".join(command)}', flush=True)
        if run_command([*_tool(command[0]), *command[1:]], ROOT) or not (ROOT / file).exists():
            raise InputError(f'{" ".join(command)} did not write {file}, which the specification names.')


def needed(files: Mapping[str, Sequence[str]], arms: Iterable[Mapping[str, Any]]) -> dict[str, Sequence[str]]:
    """Those of the files of a specification (``prepare``) that configs of arms name.

    Args:
        files: Words of the command that writes a file, by its path, as :func:`prepare` takes them.
        arms: Arms that will run, each as the specification has it.
    """
    configs = [str(arm_config(arm)) for arm in arms if 'config' in arm] if files else []
    return {file: command for file, command in files.items() if any(file in config for config in configs)}


def pictures(spec: Mapping[str, Any], work_dir: Path) -> dict[str, list[str]]:
    """What is drawn of the trained arms of a specification (its ``pictures``), as :func:`prepare` takes it.

    ``{work_dir}`` stands for the work folder, where the model of an arm is
    ``runs/<subset>/<arm>/seed_<seed>/iter_<last>.pth``.
    """
    files = spec.get('pictures', {}).items()
    return {
        file.format(work_dir=work_dir): [word.format(work_dir=work_dir) for word in command] for file, command in files
    }


def _tool(name: str) -> list[str]:
    # A short path in the repository, since commands stand in logs.
    return [sys.executable, name if repository() else str(resources() / name)]


def make_jobs(spec: Mapping[str, Any], seeds: Sequence[int], work_dir: Path, split: str) -> list[Job]:
    """The jobs of a specification (see ``projects/fashion_scenes/spec.py``).

    Args:
        spec: ``subsets``: by subset and arm a dict of ``config`` (from the repository's root), ``options`` (changes of
            it), ``train=False`` for a random initialisation, ``watch=True`` for a training with the probes and health
            reports of its config, ``own_test=True`` for a model that is scored by its own test loop instead of probes
            (by a ``suite`` its encoder is scored like any other); or ``pixels=PATCH_SIZE``.
            ``scores``, for all arms that are probed, may change
            what is measured: a dict of ``poolings`` (names as in :meth:`mmmim.features.Features.pool`), ``weights``
            (of trained models: 'student' or 'ema'; the teacher's where there is one is the default),
            ``leave_one_out=True`` and ``rankme=True``, see :func:`mmmim.evaluation.probes.fashion_scenes.score`; or of
            ``suite``, whose protocols score in the place of these probes, and ``weights``.
        seeds: Seeds, each of which gives every arm a run.
        work_dir: Where everything is written.
        split: 'val' or 'test'.

    Returns:
        Jobs, shortest kind first.

    Raises:
        InputError: An arm has neither a config nor pixels, or there is no such score.
    """
    measured = _score_options(spec.get('scores', {}))
    suite = spec.get('scores', {}).get('suite')
    protocols = [] if suite is None else [load_config(suite).to_dict()['protocols']]
    jobs = []
    for subset, arms in spec['subsets'].items():
        for arm, options in arms.items():
            if ('config' in options) == ('pixels' in options):
                raise InputError(f'{subset}, {arm}: an arm has a config or pixels, one of the two.')
            # Random weights and what is trained from them may be of one config.
            made_by = arm_hash(options) if options.get('train', True) else digest([arm_hash(options), 'not trained'])
            for seed in seeds if 'config' in options else seeds[:1]:
                job = Job(subset, arm, seed, work_dir / split / subset / file_name(arm) / f'seed_{seed}')
                job.made_by = digest([made_by, measured, *protocols, subset, split, seed])
                trained = work_dir / 'runs' / subset / file_name(arm) / f'seed_{seed}'
                if 'config' in options and options.get('train', True):
                    job.trained, job.trained_by = trained, digest([made_by, seed])
                job.commands = _commands(options, measured, subset, seed, split, trained, job.scores)
                jobs.append(job)
    return sorted(jobs, key=lambda job: len(job.commands))


def _score_options(scores: Mapping[str, Any]) -> list[str]:
    """Options of the tool that scores."""
    switches = ('leave_one_out', 'rankme')
    known = ('suite', 'weights') if 'suite' in scores else ('poolings', 'weights', *switches)
    if unknown := {*scores} - {*known}:
        raise InputError(f'scores: there is no {", ".join(sorted(unknown))}: use {", ".join(known)}.')
    chosen = ['--suite', scores['suite']] if 'suite' in scores else []
    if weights := scores.get('weights'):
        chosen += ['--weights', weights]
    if poolings := scores.get('poolings'):
        from mmmim.features.names import check_pooling  # imports models, for seconds

        for name in poolings:
            check_pooling(name)
        chosen += ['--pool', *poolings]
    return chosen + [f'--{name.replace("_", "-")}' for name in switches if scores.get(name)]


def _commands(
    options: Mapping[str, Any],
    measured: Sequence[str],
    subset: str,
    seed: int,
    split: str,
    trained: Path,
    scores: Path,
) -> list[list[str]]:
    score = _tool('tools/analysis_tools/score_fashion_scenes.py')
    where = [*measured, '--subset', subset, '--split', split, '--out', str(scores)]
    seeded = []
    if '--suite' in measured:
        if split != 'test' or 'pixels' in options:
            raise InputError('scores.suite: its protocols score encoders on the test split: give --split test.')
        score = _tool('tools/analysis_tools/score_protocols.py')
        where = [*measured, '--work-dir', str(scores.parent / 'protocols'), '--out', str(scores)]
        seeded = ['--seed', str(seed)]
    if 'pixels' in options:
        return [[*score, '--pixels', str(options['pixels']), *where]]
    config, changes = str(options['config']), option_words(options.get('options', {}))
    with_changes = ['--cfg-options', *changes] if changes else []
    if not options.get('train', True):
        return [[*score, config, '--seed', str(seed), *where, *with_changes]]
    train = [*_tool('tools/train.py'), config, '--work-dir', str(trained), '--no-validate', '--resume']
    # Its own process reads the images, and what is measured comes after the training.
    train += ['--cfg-options', f'randomness.seed={seed}', 'train_dataloader.num_workers=0']
    if not options.get('watch'):
        train += ['default_hooks.probe=None', 'default_hooks.health=None']
    train += changes
    checkpoint = str(trained / f'iter_{arm_config(options).train_cfg.max_iters}.pth')
    if not options.get('own_test') or '--suite' in measured:
        return [train, [*score, checkpoint, *seeded, *where]]
    test = [*_tool('tools/test.py'), config, checkpoint, '--work-dir', str(scores.parent), '--out', str(scores)]
    test += ['--cfg-options', *changes, f'test_dataloader.dataset.dataset.split={split}']
    return [train, test]


def run_jobs(jobs: Sequence[Job], parallel: int) -> None:
    """Run jobs side by side; prints progress and the time that is left.

    Raises:
        InputError: One failed. Those that run are finished, the others are not started; a later call goes on.
        Stopped: By a signal, after those that run, which save.
    """
    waiting = [job for job in jobs if not job.scores.is_file()]
    print(f'{len(jobs)} runs, {len(jobs) - len(waiting)} done already, {parallel} at a time', flush=True)
    start = time.perf_counter()
    with ThreadPoolExecutor(parallel) as pool:
        futures = {pool.submit(job.run): job for job in waiting}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                job, seconds = futures[future], future.result()
                left = (time.perf_counter() - start) / done * (len(waiting) - done)
                print(
                    f'[{done}/{len(waiting)}] {job.subset}, {job.arm}, seed {job.seed}: {seconds:.0f} s; '
                    f'about {left / 60:.0f} min left',
                    flush=True,
                )
        except BaseException as error:
            if isinstance(error, Stopped):
                error.message = f'{name_of(error.signum)}: trainings save and end; the same command goes on.'
                for job in waiting:
                    if job.process is not None and job.process.returncode is None:
                        job.process.terminate()
            pool.shutdown(cancel_futures=True)
            raise


def file_name(arm: str) -> str:
    """The name of an arm as that of a file or folder."""
    return re.sub(r'\W+', '_', arm)


def collect(jobs: Sequence[Job]) -> Results:
    """Read the scores of finished jobs."""
    results: Results = {}
    for job in jobs:
        if job.scores.is_file():
            for name, value in json.loads(job.scores.read_text()).items():
                arm = results.setdefault(job.subset, {}).setdefault(job.arm, {})
                arm.setdefault(name, []).append(value)
    return results


def finished(jobs: Sequence[Job]) -> dict[str, dict[str, float]]:
    """Scores of finished jobs by what made them, as :func:`restore` reads them."""
    return {job.made_by: json.loads(job.scores.read_text()) for job in jobs if job.scores.is_file()}
