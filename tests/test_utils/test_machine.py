import os
import subprocess
import sys

from tests.paths import ROOT

#: What Windows lacks, and macOS in part.
MODULES = ('resource', 'fcntl', 'pwd', 'grp', 'termios', 'tty', 'pty', 'syslog')
CALLS = ('sched_getaffinity', 'sysconf', 'fork', 'getuid', 'geteuid', 'killpg', 'getpgid', 'mkfifo', 'statvfs')
SIGNALS = ('SIGUSR1', 'SIGUSR2', 'SIGHUP', 'SIGKILL', 'SIGALRM', 'SIGQUIT')

#: Libraries come first: they have guards of their own.
SCRIPT = f"""
import os, pathlib, pkgutil, runpy, signal, sys
import torch, torchvision, sklearn, cv2, PIL.Image, matplotlib.figure
import torch.distributed.run, torch._dynamo, mmengine.runner, mmengine.hooks, mmcv.transforms, mmpretrain.models
import mmseg.datasets, mmseg.models
for name in {MODULES}:
    sys.modules[name] = None
for name in {CALLS}:
    if hasattr(os, name):
        delattr(os, name)
for name in {SIGNALS}:
    if hasattr(signal, name):
        delattr(signal, name)

import importlib
import mmmim
names = [module.name for module in pkgutil.walk_packages(mmmim.__path__, 'mmmim.')]
for name in names:
    importlib.import_module(name)
for path in sorted(pathlib.Path({str(ROOT / 'tools')!r}).rglob('*.py')):
    runpy.run_path(str(path), run_name='tool')

from mmmim.features.stored_arrays import lock_folder
from mmmim.checkpoints.files import save_checkpoint_file
from mmmim.utils.machine import physical_memory, usable_cpus
assert physical_memory() is None and usable_cpus() >= 1
lock_folder(pathlib.Path('cache')).close()
save_checkpoint_file({{'a': torch.zeros(2)}}, 'a.pth')
assert os.path.getsize('a.pth') > 8
print(len(names), 'modules')
"""


def test_everything_starts_without_what_other_systems_lack(tmp_path):
    command, env = [sys.executable, '-c', SCRIPT], {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.split()[-2]) > 100
