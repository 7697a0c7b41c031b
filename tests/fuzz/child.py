"""Reads mutated files one after the other: ``python -m tests.fuzz.child SEED KIND=NUMBER ...`` in an empty folder.

Prints ``START KIND SEED`` before every case, so that what kills this process has a name; ``FAIL`` for what is wrong;
and after the cases of a kind how many were read and how many refused.
"""

import importlib
import json
import os
import random
import shutil
import signal
import sys
import traceback
import warnings
from pathlib import Path

from mmmim.datasets.transforms.loading import UnreadableImageError
from mmmim.utils import InputError
from mmmim.utils.machine import peak_resident_memory
from tests.fuzz import readers
from tests.fuzz.guard import Guard
from tests.fuzz.harm import Harm

#: Seconds and bytes of a case.
SECONDS, MEMORY = 60, 600e6
MARKERS = ('marker', 'marker.png')


class Hang(BaseException):
    """A case takes too long."""


def _alarm(*_: object) -> None:
    raise Hang


def sandbox() -> None:
    """What hostile files would open, import or delete."""
    Path('evil_module.py').write_text('open("marker", "w").close()\nclass Evil:\n    pass\n')
    for name in ('secret.pth', 'secret.npy', 'secret.pkl'):
        Path(name).write_bytes(b'cos\nsystem\n(S"touch marker"\ntR.')
    Path('home').mkdir(exist_ok=True)


def peak() -> int:
    """Bytes that this process has had at most."""
    return peak_resident_memory() or 0


def run(reader: object, seed: int, guard: Guard) -> tuple[str, list[str]]:
    """Outcome of a case, and what is wrong with it."""
    files, call = reader.case(random.Random(seed))
    for name, data in files.items():
        Path(name).write_bytes(data)
    before, outcome, wrong, seconds = peak(), 'read', [], getattr(reader, 'SECONDS', SECONDS)
    with guard.watching(files) as seen:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            call()
        except (InputError, UnreadableImageError):
            outcome = 'refused'
        except Hang:
            wrong.append(f'no end within {seconds} s')
        except BaseException as error:
            where = ''.join(traceback.format_tb(error.__traceback__)[-3:])
            wrong.append(f'{type(error).__name__}: {error!s:.200}\n{where}')
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    wrong += seen
    for name in MARKERS:
        if os.path.lexists(name):
            wrong.append(f'{name} was written')
            shutil.rmtree(name) if os.path.isdir(name) else os.remove(name)
    if peak() - before > MEMORY:
        wrong.append(f'{(peak() - before) / 1e6:.0f} MB')
    return outcome, wrong


def main() -> None:
    """Run."""
    first, numbers = int(sys.argv[1]), dict(text.split('=') for text in sys.argv[2:])
    warnings.simplefilter('ignore')
    sandbox()
    made = {kind: Harm() if kind == 'Harm' else getattr(readers, kind)() for kind in numbers}
    signal.signal(signal.SIGALRM, _alarm)
    # What is imported at the first time, by names that the packages themselves give.
    for module in ('mmpretrain.models', 'mmseg.models', 'mmcv.cnn', 'sklearn.cluster', 'timm'):
        importlib.import_module(module)
    for reader in made.values():
        for seed in range(3):
            run(reader, -1 - seed, _Unwatched())
    guard = Guard('.')
    for kind, number in numbers.items():
        counts: dict[str, int] = {}
        for seed in range(first, first + int(number)):
            print(f'START {kind} {seed}', flush=True)
            outcome, wrong = run(made[kind], seed, guard)
            counts[f'{kind} {outcome}'] = counts.get(f'{kind} {outcome}', 0) + 1
            for text in wrong:
                print(f'FAIL {kind} {seed}: {text}', flush=True)
        print(json.dumps(counts), flush=True)


class _Unwatched:
    def watching(self, files: object) -> object:
        from contextlib import nullcontext

        return nullcontext([])


if __name__ == '__main__':
    main()
