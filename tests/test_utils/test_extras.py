"""Whatever needs a library of an extra says in one sentence how to install it, where it is missing."""

import subprocess
import sys

import pytest

from mmmim.registry import DATASETS, MODELS
from mmmim.utils import InputError
from tests.paths import load_tool


def shards(tool_args, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['make_shards.py', *tool_args])
    load_tool('dataset_converters/make_shards').main()


#: Library, what needs it, the command.
CASES = {
    'timm': (lambda: MODELS.build({'type': 'mmmim.TimmEncoder', 'name': 'vit_tiny_patch16_224'}), 'mmmim[timm]'),
    'datasets': (
        lambda: DATASETS.build({'type': 'mmmim.HuggingFaceStream', 'path': '.', 'pipeline': []}),
        'mmmim[huggingface]',
    ),
    'webdataset': (
        lambda: DATASETS.build({'type': 'mmmim.WebDatasetStream', 'shards': 'a.tar', 'pipeline': []}),
        'mmmim[webdataset]',
    ),
    'safetensors': (
        lambda: MODELS.build({'type': 'mmmim.TimmEncoder', 'name': 'vit_tiny_patch16_224', 'weights': 'a.safetensors'}),
        'safetensors',
    ),
}


@pytest.mark.parametrize('library', CASES)
def test_a_missing_library_is_one_sentence(library, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.safetensors').write_bytes(b'x')
    for name in [name for name in sys.modules if name == library or name.startswith(f'{library}.')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f'{library}.torch', None)
    use, command = CASES[library]
    with pytest.raises(InputError, match=r'needs the library \w+: pip install "?') as error_info:
        use()
    assert command in str(error_info.value)
    assert '\n' not in str(error_info.value)


def test_make_shards_without_its_library(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, 'webdataset', None)
    with pytest.raises(SystemExit) as exit_info:
        shards([str(tmp_path), str(tmp_path / 'out')], monkeypatch)
    assert exit_info.value.code == 2
    assert 'pip install "mmmim[webdataset]"' in capsys.readouterr().err


def test_images_are_read_without_simplejpeg():
    """It is an extra that makes JPEG files faster, and nothing needs it."""
    code = (
        'import sys, io; sys.modules["simplejpeg"] = None\n'
        'import numpy as np; from PIL import Image\n'
        'from mmmim.datasets import LoadImage\n'
        'out = io.BytesIO(); Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(out, "JPEG")\n'
        'read = LoadImage().transform({"img_path": "a.jpg", "img_bytes": out.getvalue()})\n'
        'assert read["img"].shape == (8, 8, 3)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
