"""Whatever needs a library of an extra says in one sentence how to install it, where it is missing."""

import importlib
import io
import sys

import numpy as np
import pytest
from PIL import Image

from mmmim.datasets import LoadImage
from mmmim.datasets.transforms import jpeg
from mmmim.registry import DATASETS, MODELS
from mmmim.utils import InputError

TIMM = {'type': 'mmmim.TimmEncoder', 'name': 'vit_tiny_patch16_224'}


@pytest.mark.parametrize(
    ('library', 'registry', 'config', 'command'),
    [
        ('timm', MODELS, TIMM, 'mmmim[timm]'),
        ('transformers', MODELS, {'type': 'mmmim.HuggingFaceEncoder', 'name': 'vit'}, 'mmmim[transformers]'),
        ('safetensors', MODELS, {**TIMM, 'weights': 'a.safetensors'}, 'safetensors'),
        ('datasets', DATASETS, {'type': 'mmmim.HuggingFaceStream', 'path': '.'}, 'mmmim[huggingface]'),
        ('webdataset', DATASETS, {'type': 'mmmim.WebDatasetStream', 'shards': 'a.tar'}, 'mmmim[webdataset]'),
    ],
)
def test_a_missing_library_is_one_sentence(library, registry, config, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.safetensors').write_bytes(b'x')
    for name in [name for name in sys.modules if name == library or name.startswith(f'{library}.')]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f'{library}.torch', None)
    with pytest.raises(InputError, match=r'needs the library \w+: pip install "?') as error_info:
        registry.build(config if registry is MODELS else {**config, 'pipeline': []})
    assert command in str(error_info.value)
    assert '\n' not in str(error_info.value)


def test_images_are_read_without_simplejpeg(monkeypatch):
    """It is an extra that makes JPEG files a little faster, and nothing needs it."""
    out = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(out, 'JPEG')
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, 'simplejpeg', None)
        importlib.reload(jpeg)
        assert jpeg.simplejpeg is None
        read = LoadImage().transform({'img_path': 'a.jpg', 'img_bytes': out.getvalue()})
        assert read['img'].shape == (8, 8, 3)
    importlib.reload(jpeg)
