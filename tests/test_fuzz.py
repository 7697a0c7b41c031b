"""Files that were damaged or made up are read, or refused with a documented error: nothing else happens.

Checkpoints, trainings that are resumed, recorded and cached arrays, shards and images are mutated from seeds and read
one after the other in a process that is watched: it must not crash, hang, take much memory, write, delete, run,
connect, import, or open another file (tests/fuzz).
"""

import json
import os
import subprocess
import sys

import pytest

from tests.paths import ROOT

#: Files by kind.
DEFAULT = {'Checkpoints': 700, 'Trainings': 250, 'Arrays': 350, 'Shards': 300, 'Images': 400}


def fuzz(folder, seed, numbers, timeout):
    """Counts; fails with kind and seed of what went wrong."""
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
    lines = output.read_text().splitlines()
    cases = [line for line in lines if line.startswith('START')]
    failures = '\n'.join(line for line in lines if not line.startswith('START'))[:4000]
    last = cases[-1] if cases else errors.read_text()[-2000:]
    assert status == 0, f'status {status} after {len(cases)} files, the last of them {last}\n{failures}'
    assert len(cases) == sum(numbers.values())
    return json.loads(lines[-1])


def test_nothing_but_an_error_comes_of_files_from_elsewhere(tmp_path):
    counts = fuzz(tmp_path, 0, DEFAULT, 900)
    assert sum(DEFAULT.values()) == 2000
    for kind, number in DEFAULT.items():
        for outcome in ('read', 'refused'):  # otherwise mutations are too strong or too weak
            assert counts[f'{kind} {outcome}'] > 0.05 * number, counts


@pytest.mark.slow
def test_more_files(tmp_path):
    fuzz(tmp_path, 100_000, {kind: 20 * number for kind, number in DEFAULT.items()}, 3600)


#: What a reader might do, and what is said of it. The last one ends the process.
HARM = {
    'open("there", "w").close()': 'writing of',
    'os.open("there", os.O_RDWR | os.O_CREAT)': 'writing of',
    'open("secret.pth").close()': 'reading of',
    'os.system("true")': 'os.system',
    'subprocess.run(["true"])': 'subprocess.Popen',
    'os.remove("secret.npy")': 'os.remove',
    'os.rename("secret.pkl", "there")': 'os.rename',
    'socket.socket().connect_ex(("127.0.0.1", 9))': 'socket.connect',
    'importlib.import_module("evil_module")': 'import of evil_module',
    'pickle.loads(pickle.dumps(pathlib.PurePath()))': 'pickle.find_class',
    'int("x")': 'ValueError: invalid literal',
    'sys.exit(0)': 'SystemExit',
    'time.sleep(9)': 'no end within 1 s',
    'held.append(b"x" * 800_000_000)': ' MB',
    'os.kill(os.getpid(), 11)': '',
}
SCRIPT = f"""
import importlib, os, pathlib, pickle, socket, subprocess, sys, time
from tests.fuzz import child, readers
codes, held, child.SECONDS = {list(HARM)!r}, [], 1

class Harm:
    cases = -3  # those that are not watched
    def case(self, rng):
        self.cases += 1
        return {{'case.x': b'x'}}, self.read
    def read(self):
        open('case.x').close()
        if self.cases > 0:
            exec(codes[self.cases - 1])

readers.Harm = Harm
sys.argv[1:] = ['0', f'Harm={{len(codes)}}']
child.main()
"""


def test_the_watch_sees_what_a_reader_must_not_do(tmp_path):
    """Each harm is found, and named by kind and seed, that which ends the process too."""
    environment = {**os.environ, 'HOME': str(tmp_path), 'PYTHONPATH': str(ROOT), 'PYTHONDONTWRITEBYTECODE': '1'}
    command = [sys.executable, '-c', SCRIPT]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == -11, done.stderr[-2000:]
    cases = done.stdout.split('START Harm ')[1:]
    assert len(cases) == len(HARM)
    for (code, what), case in zip(list(HARM.items())[:-1], cases[:-1], strict=True):
        assert 'FAIL Harm ' in case, code
        assert what in case, (code, case)
