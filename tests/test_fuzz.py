"""Files that were damaged or made up are read, or refused with a documented error: nothing else happens.

Checkpoints, trainings that are resumed, recorded and cached arrays, shards and images are mutated from seeds and read
one after the other in a process that is watched: it must not crash, hang, take much memory, write, delete, run,
connect, import, or open another file (tests/fuzz). The same process then does what a reader must not do.
"""

import json
import os
import subprocess
import sys

import pytest

from tests.fuzz.harm import HARM
from tests.paths import ROOT

#: Files by kind.
DEFAULT = {'Checkpoints': 500, 'Trainings': 200, 'Arrays': 400, 'Shards': 400, 'Images': 500}


def fuzz(folder, seed, numbers, timeout):
    """Status, and lines by kind; what a process of the seed prints."""
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith('MMMIM')},
        'HOME': str(folder / 'home'),
        'TMPDIR': str(folder),
        'PYTHONPATH': str(ROOT),
        'PYTHONDONTWRITEBYTECODE': '1',
        'OMP_NUM_THREADS': '1',
    }
    command = [sys.executable, '-m', 'tests.fuzz.child', str(seed)]
    command += [f'{kind}={number}' for kind, number in numbers.items()]
    output, errors = folder / 'output.txt', folder / 'errors.txt'
    with open(output, 'w') as out, open(errors, 'w') as err:
        try:
            status = subprocess.run(
                command, cwd=folder, env=environment, stdout=out, stderr=err, timeout=timeout, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            status = 'time is over'
    text = output.read_text()
    kinds = {kind: [part for part in text.split('START ')[1:] if part.startswith(f'{kind} ')] for kind in numbers}
    assert all(kinds.values()), f'status {status}: {errors.read_text()[-2000:]}'
    return status, kinds


def check(status, kinds, numbers):
    """Fails with kind and seed of what went wrong, or of the last file of a process that has ended; gives counts."""
    counts = {}
    for kind, number in numbers.items():
        failures = ''.join(case for case in kinds[kind] if 'FAIL' in case)[:4000]
        assert not failures, failures
        assert len(kinds[kind]) == number, f'status {status} after {kinds[kind][-1]}'
        counts |= json.loads(kinds[kind][-1].splitlines()[1])
    return counts


@pytest.fixture(scope='module')
def found(tmp_path_factory):
    return fuzz(tmp_path_factory.mktemp('fuzz'), 0, {**DEFAULT, 'Harm': len(HARM)}, 900)


def test_nothing_but_an_error_comes_of_files_from_elsewhere(found):
    counts = check(*found, DEFAULT)
    assert sum(DEFAULT.values()) == 2000
    for kind, number in DEFAULT.items():
        for outcome in ('read', 'refused'):  # otherwise mutations are too strong or too weak
            assert counts[f'{kind} {outcome}'] > 0.05 * number, counts


def test_the_watch_sees_what_a_reader_must_not_do(found):
    """Each harm is found, and named by kind and seed, that which ends the process too."""
    status, kinds = found
    assert status == -11
    for (code, what), case in zip(HARM.items(), kinds['Harm'], strict=True):
        assert ('FAIL Harm ' in case) == (what != ''), code
        assert what in case, (code, case)


@pytest.mark.slow
def test_more_files(tmp_path):
    numbers = {kind: 20 * number for kind, number in DEFAULT.items()}
    check(*fuzz(tmp_path, 100_000, numbers, 3600), numbers)
