"""Where things are, and how to run a tool as a user does."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIXTURE = ROOT / 'tests/data/capi_tiny.npz'


def run_tool(tool, *args, cwd=None, timeout=300):
    """Run ``tools/<tool>`` in a process of its own."""
    command = [sys.executable, str(ROOT / 'tools' / tool), *map(str, args)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


def load_tool(name):
    """The module ``tools/<name>.py``."""
    spec = importlib.util.spec_from_file_location(f'tool_{name}', ROOT / 'tools' / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
