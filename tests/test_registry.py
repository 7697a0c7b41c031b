import os
import subprocess
import sys

from tests.paths import ROOT

SCRIPT = """
import mmmim.registry
from mmengine.registry import DefaultScope
from mmmim.utils import register_all_modules
assert 'ViT' not in str(mmmim.registry.MODELS)
register_all_modules(init_default_scope=False)
table = str(mmmim.registry.MODELS)
assert all(name in table for name in ('ViT', 'MaskedImageModeling', 'PixelTarget'))
assert 'HealthHook' in str(mmmim.registry.HOOKS) and 'FitTestLoop' in str(mmmim.registry.LOOPS)
assert all(len(getattr(mmmim.registry, name)) for name in ('DATASETS', 'TRANSFORMS', 'SCHEDULES', 'PROBES'))
assert DefaultScope.get_current_instance() is None or DefaultScope.get_current_instance().scope_name != 'mmmim'
register_all_modules()
assert DefaultScope.get_current_instance().scope_name == 'mmmim'
"""


def test_registries_can_be_filled_for_looking():
    """In a fresh process, where nothing has been looked up."""
    environment = {**os.environ, 'PYTHONPATH': str(ROOT)}
    done = subprocess.run(
        [sys.executable, '-c', SCRIPT], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
