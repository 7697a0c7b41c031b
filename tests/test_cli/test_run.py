"""The road from a command line to what is run: what is read and built on it, and how often."""

from pathlib import Path

import pytest
import torch

from mmmim.checkpoints import save_checkpoint_file
from mmmim.checkpoints.mapped import reading_once
from mmmim.cli import test as testing
from mmmim.cli import train as training
from mmmim.cli.run import build_config
from mmmim.engine import Runner
from mmmim.models import ViT
from mmmim.registry import MODELS
from tests.paths import ROOT
from tests.segmentation import tiny_encoder

SEGMENTOR = str(ROOT / 'configs/eval/seg_linear_fashion.py')
PROBE = str(ROOT / 'configs/eval/seg_knn_fashion.py')
SHORT = ['--cfg-options', 'model.neck.norm_cfg.type=mmseg.BN', '+experiment_name=counted']


@pytest.fixture
def pretrained(tmp_path, monkeypatch):
    """A pre-trained encoder, whose checkpoint with a teacher and moments lies in the current folder."""
    monkeypatch.chdir(tmp_path)
    config = tiny_encoder(patch_size=4, img_size=32, depth=2)
    encoder = MODELS.build(dict(config))
    state = {f'{part}backbone.{k}': v for part in ('', 'teacher.') for k, v in encoder.state_dict().items()}
    moments = {i: {'exp_avg': torch.rand_like(p)} for i, p in enumerate(encoder.parameters())}
    model = {'version': 1, 'model': {'backbone': config}}
    save_checkpoint_file({'state_dict': state, 'optimizer': {'state': moments}, 'mmmim': model}, 'encoder.pth')
    return encoder


@pytest.fixture
def trained(pretrained):
    """The same beside the checkpoint of a segmentor that was trained on it."""
    cfg = config_of(training, SEGMENTOR, '--pretrained', 'encoder.pth')
    state, model = MODELS.build(cfg.model).state_dict(), {'version': 1, 'model': cfg.model.to_dict()}
    moments = {0: {'exp_avg': torch.rand(1000)}}
    save_checkpoint_file({'state_dict': state, 'optimizer': {'state': moments}, 'mmmim': model}, 'trained.pth')
    return state


def config_of(module, *words):
    return build_config(module.build_parser().parse_args([*words]), module.COMMAND)


class Counts:
    """Files that torch reads, how, and where encoders are built."""

    def __init__(self, monkeypatch):
        self.read, self.built = [], []
        load, init = torch.load, ViT.__init__

        def counted_load(file, *args, **kwargs):
            self.read.append((Path(file).name, 'part' if kwargs.get('mmap') else 'whole'))
            return load(file, *args, **kwargs)

        def counted_init(vit, *args, **kwargs):
            self.built.append(torch.empty(0).device.type)
            init(vit, *args, **kwargs)

        monkeypatch.setattr(torch, 'load', counted_load)
        monkeypatch.setattr(ViT, '__init__', counted_init)


def test_a_trained_model_is_read_once(trained, monkeypatch):
    counts = Counts(monkeypatch)
    with reading_once():
        runner = Runner.from_cfg(config_of(testing, SEGMENTOR, 'trained.pth', *SHORT))
        runner.load_or_resume()
        assert (counts.read, counts.built) == ([('trained.pth', 'part')], ['meta', 'cpu'])
    for name, value in runner.model.state_dict().items():
        assert torch.equal(value, trained[name])


def test_a_resumed_model_gives_its_facts_at_one_reading(trained, monkeypatch):
    counts = Counts(monkeypatch)
    cfg = config_of(training, SEGMENTOR, '--resume', 'trained.pth')
    assert (counts.read, counts.built) == ([('trained.pth', 'part')], ['meta'])
    assert (cfg.model.backbone.checkpoint, cfg.model.decode_head.in_channels) == ('load_from', 16)


@pytest.mark.parametrize('name', ['train', 'test'])
def test_the_program_itself_reads_once(pretrained, monkeypatch, tool, name):
    """What ``tools/*.py`` run is the road that is counted here, up to the model in the runner."""
    counts, built = Counts(monkeypatch), []
    monkeypatch.setenv('LOCAL_RANK', '0')

    def start(runner):
        built.append(runner.model)

    monkeypatch.setattr(Runner, 'train', start)
    monkeypatch.setattr(Runner, 'test', lambda runner: start(runner) or {'mIoU': 1.0})
    config = SEGMENTOR if name == 'train' else PROBE
    tool(name, config, '--pretrained', 'encoder.pth', '--cfg-options', f'+experiment_name=once_{name}')
    (model,) = built
    assert (counts.read, counts.built) == ([('encoder.pth', 'part')], ['meta', 'cpu'])
    for key, value in model.backbone.backbone.state_dict().items():
        assert torch.equal(value, pretrained.state_dict()[key])
