"""What a process that loads images imports: each library costs time and memory once per worker."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

CODE = """
import sys
import mmmim
assert 'torch' not in sys.modules
from mmmim.registry import DATASETS
pipeline = [
    dict(type='mmmim.LoadImage'),
    dict(type='mmmim.RandomResizedCrop', scale=16),
    dict(type='mmpretrain.RandomFlip', prob=0.5),
    dict(type='mmpretrain.PackInputs'),
]
dataset = dict(type='mmmim.ImageFolder', data_root='.', pipeline=pipeline)
dataset = DATASETS.build(dict(type='mmmim.SeededDataset', dataset=dataset))
import torch
from torch.utils.data import DataLoader


class Modules(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        dataset[index]
        return list(sys.modules)


if __name__ == '__main__':
    dataset.full_init()
    assert dataset[0]['inputs'].shape == (3, 16, 16)
    options = dict(num_workers=1, multiprocessing_context=METHOD, collate_fn=list)
    (batch,) = DataLoader(Modules(), **options)
    print(*batch[0])
"""
#: Heavy, and nothing that loading images needs.
HEAVY = ('sklearn', 'matplotlib', 'scipy', 'pandas', 'mmseg', 'torch._dynamo', 'torch._inductor', 'mmpretrain.models')


def compiler_comes_with_torch() -> bool:
    """Whether torch imports its compiler by itself, with what mmengine imports of it, as torch 2.8 does."""
    code = 'import sys, torch.distributed.fsdp; sys.exit("torch._dynamo" in sys.modules)'
    return subprocess.run([sys.executable, '-c', code], timeout=600, check=False).returncode == 1


@pytest.fixture(scope='module')
def lean_torch():
    if compiler_comes_with_torch():
        pytest.skip('this torch imports its compiler itself')


@pytest.mark.usefixtures('lean_torch')
@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_a_worker_imports_little(method, tmp_path):
    Image.fromarray(np.zeros((20, 20, 3), np.uint8)).save(tmp_path / 'a.jpg')
    (tmp_path / 'program.py').write_text(CODE.replace('METHOD', repr(method)))
    run = [sys.executable, 'program.py']
    done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    modules = set(done.stdout.split())
    assert {'mmmim.datasets.image_folder', 'torchvision'} <= modules
    assert not modules & set(HEAVY)


@pytest.mark.usefixtures('lean_torch')
def test_the_compiler_is_there_when_it_is_needed(tmp_path):
    """Torchvision is imported without it; afterwards everything is as ever."""
    code = """
import sys, mmmim.datasets, torch, torchvision
assert not any(name.startswith('torch._dynamo') for name in sys.modules)
assert torchvision.ops.roi_align.__globals__['is_compile_supported']('cpu') is True
assert torch._dynamo is sys.modules['torch._dynamo']
assert torch.compile(lambda x: x + 1, backend='eager')(torch.ones(2)).tolist() == [2, 2]
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('package', ['datasets', 'models', 'engine', 'features'])
def test_whatever_is_imported_first_prints_nothing(package):
    done = subprocess.run(
        [sys.executable, '-c', f'import mmmim.{package}'], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
