"""The readers of files, each with valid files of its own and what mutates them.

``case(rng)`` of each gives the files of a case, by their names, and what reads them.
"""

import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

import mmmim
from mmmim.checkpoints.pretrained import load_pretrained
from mmmim.datasets import WebDatasetStream
from mmmim.datasets.transforms.loading import LoadImage, read_image
from mmmim.engine import Runner
from mmmim.engine.nonfinite import capture
from mmmim.engine.replay import replay
from mmmim.features.stored_arrays import ArraySpec, StoredArrays
from mmmim.models import KMeansTokenizer
from mmmim.parity.report import Fixture
from mmmim.registry import MODELS
from tests.fuzz.mutations import flip, restructure, retar, rezip
from tests.toys import capi_config

Case = tuple[dict[str, bytes], Callable[[], Any]]


def saved(value: Any) -> bytes:
    """As ``torch.save`` writes it."""
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


def small() -> dict[str, Any]:
    """A model of few tensors, as a file takes its time by their number."""
    config = capi_config()
    for part in (config['backbone'], config['branches']['capi']['neck']):
        part['depth'] = 1
    return config


class Checkpoints:
    """The model of a file: bytes, archive, config, weights."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        config = small()
        self.valid = {'state_dict': MODELS.build(config).state_dict(), 'mmmim': {'version': 1, 'model': config}}
        self.data = saved(self.valid)

    def case(self, rng: random.Random) -> Case:
        """One of the ways in."""
        kind, valid = rng.randrange(8), dict(self.valid)
        if kind < 2:
            data = (flip, rezip)[kind](self.data, rng)
        elif kind == 2:
            data = saved(restructure(valid, rng))
        else:
            valid['mmmim'] = {'version': 1, 'model': restructure(self.valid['mmmim']['model'], rng)}
            data = saved(valid)
        weights = rng.choice(('auto', 'auto', 'ema', 'student'))
        backbone = {'type': 'mmmim.PretrainedBackbone', 'checkpoint': 'case.pth', 'weights': weights}
        ways = (
            lambda: mmmim.get_model('case.pth', weights),
            lambda: mmmim.get_model('case.pth', weights),
            lambda: load_pretrained('case.pth', weights),
            lambda: MODELS.build(backbone),
        )
        return {'case.pth': data}, rng.choice(ways)


class Trainings:
    """The checkpoint of a training that is resumed: moments, schedules, counters and the rest; a captured step."""

    def __init__(self) -> None:
        masking = {'type': 'mmmim.UniformMasking', 'mask_ratio': 0.5}
        images = {'type': 'mmmim.SyntheticImages', 'size': 16}
        momentum = {'type': 'mmmim.linear', 'start': 0.99, 'final': 1.0}
        cfg = {
            'model': small(),
            'train_dataloader': {
                'batch_size': 4,
                'num_workers': 0,
                'sampler': {'type': 'mmmim.PositionSampler', 'shuffle': False},
                'dataset': {'type': 'mmmim.SeededDataset', 'dataset': images},
                'collate_fn': {'type': 'mmmim.MaskCollate', 'masking': masking, 'patch_size': 4},
            },
            'train_cfg': {'type': 'mmengine.IterBasedTrainLoop', 'max_iters': 2},
            'optim_wrapper': {'type': 'mmmim.OptimWrapper', 'optimizer': {'type': 'AdamW', 'lr': 1e-3, 'fused': True}},
            'param_scheduler': [{'type': 'mmengine.CosineAnnealingLR', 'T_max': 20, 'by_epoch': False}],
            'default_hooks': {
                'runtime_info': {'type': 'mmmim.RuntimeInfoHook'},
                'logger': {'type': 'mmengine.LoggerHook'},
                'checkpoint': {'type': 'mmmim.CheckpointHook', 'by_epoch': False, 'interval': 2},
                'target_ema': {'type': 'mmmim.TargetEMAHook', 'momentum': momentum},
            },
            'default_scope': 'mmmim',
            'work_dir': 'training',
            'experiment_name': 'fuzz',
            'log_level': 'ERROR',
        }
        self.runner = Runner.from_cfg(Config(cfg))
        self.runner.train()
        self.data = Path('training/iter_2.pth').read_bytes()
        self.valid = torch.load('training/iter_2.pth', weights_only=True)
        batch = next(iter(self.runner.train_dataloader))
        self.captured = torch.load(capture(self.runner, batch, {'loss': torch.tensor(1.0)}), weights_only=True)

    def case(self, rng: random.Random) -> Case:
        """Resume, and take a step with what was resumed: moments of another shape would be read beyond their end."""
        kind = rng.randrange(8)
        if kind < 2:
            return {'case.pth': (flip, rezip)[kind](self.data, rng)}, self._resume
        if kind == 2:  # a step that was captured, and is run again
            return {'case.pth': saved(restructure(self.captured, rng))}, lambda: replay('case.pth')
        valid = dict(self.valid)
        keys = ('optimizer', 'optimizer', 'param_schedulers', 'meta', 'message_hub', 'mmmim', 'state_dict')
        key = rng.choice([key for key in keys if key in valid])
        valid[key] = restructure(valid[key], rng)
        return {'case.pth': saved(valid)}, self._resume

    def _resume(self) -> None:
        self.runner.resume('case.pth')
        for parameter in self.runner.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.runner.optim_wrapper.optimizer.step()


class Arrays:
    """Recorded runs, cached features, codebooks."""

    def __init__(self) -> None:
        out = io.BytesIO()
        np.savez(out, loss=np.ones(3), index=np.arange(3), **{'grad/backbone.x': np.zeros((4, 5), np.float32)})
        self.recorded = out.getvalue()
        self.stored = StoredArrays(Path('cache'), 'features', {'a': 1}, {'x': ArraySpec((6, 4), 'float32')})
        with self.stored.write() as writer:
            writer.write('x', 0, np.ones((6, 4), np.float32))
        self.cached = {f'{self.stored.folder}/{name}': b'' for name in ('x.npy', 'meta.json')}
        self.cached = {name: Path(name).read_bytes() for name in self.cached}
        self.codebook = {'centres': torch.rand(6, 48), 'about': {'patch_size': 4, 'codes': 6}}

    def case(self, rng: random.Random) -> Case:
        """By the reader of each."""
        kind = rng.randrange(3)
        if kind == 0:
            files = {'case.npz': rng.choice((flip, rezip, rezip))(self.recorded, rng), 'case.json': b'{"seed": 0}'}
            if rng.random() < 0.2:
                files = {'case.npz': self.recorded, 'case.json': flip(files['case.json'], rng)}
            return files, lambda: Fixture.load('case.npz')
        if kind == 1:
            changed = rng.choice(list(self.cached))
            return {**self.cached, changed: flip(self.cached[changed], rng)}, lambda: self.stored.read()['x'][:].sum()
        data = rezip(saved(self.codebook), rng) if rng.random() < 0.3 else saved(restructure(self.codebook, rng))
        return {'case.pth': data}, lambda: KMeansTokenizer('case.pth', 6, 4)


class Shards:
    """Tar files of images."""

    def __init__(self) -> None:
        out = io.BytesIO()
        pictures = [_picture('PNG', i) for i in range(4)]
        with tarfile.open(fileobj=out, mode='w') as archive:
            for i, data in enumerate(pictures):
                for name, content in ((f'{i}.png', data), (f'{i}.json', b'{}')):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
        self.data = out.getvalue()

    def case(self, rng: random.Random) -> Case:
        """Read to the end."""
        data = rng.choice((flip, retar, retar))(self.data, rng)

        def read() -> None:
            stream = WebDatasetStream('case.tar', pipeline=[])
            for name, content in stream.read_shard(0):
                assert isinstance(name, str)
                assert isinstance(content, bytes)

        return {'case.tar': data}, read


class Images:
    """Images of all formats, also under the names of others."""

    FORMATS = ('PNG', 'JPEG', 'WEBP', 'TIFF', 'BMP', 'GIF', 'PPM', 'NPY')

    def __init__(self) -> None:
        self.data = [_picture(kind, i) for i, kind in enumerate(self.FORMATS)]
        self.load = LoadImage()

    def case(self, rng: random.Random) -> Case:
        """By Pillow, or as a data set reads."""
        data, name = flip(rng.choice(self.data), rng), f'case.{rng.choice(("png", "jpg", "tif"))}'
        ways = (
            lambda: read_image(name),
            lambda: read_image(name, 3, 'keep'),
            lambda: self.load.transform({'img_path': name}),
        )
        return {name: data}, rng.choice(ways)


def _picture(kind: str, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 20, 3), dtype=np.uint8)
    out = io.BytesIO()
    if kind == 'NPY':
        np.save(out, pixels.astype(np.uint16))
    else:
        Image.fromarray(pixels).save(out, kind)
    return out.getvalue()
