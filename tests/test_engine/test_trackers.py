"""Programs that show many trainings: what they get of one."""

import importlib.util

import pytest
from mmengine import Config
from mmengine.registry import VISBACKENDS
from mmengine.visualization.vis_backend import BaseVisBackend, MLflowVisBackend

from mmmim.cli.train import COMMAND, build_parser
from mmmim.config.trackers import TRACKERS, add_tracker
from mmmim.utils import InputError
from tests.runs import pretraining, rows_of, start
from tests.shrink import write_images


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('images')
    write_images(folder)
    return folder


def test_tensorboard(images, tmp_path):
    """Its event file, read back by itself, has the scalars of the log, health among them, and the pictures."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    cfg = pretraining('mae/small', images, tmp_path, pictures=True, probe_data=None)
    add_tracker(cfg, 'tensorboard')
    runner = start(cfg)
    (events,) = tmp_path.rglob('events.out.tfevents.*')
    shown = EventAccumulator(str(events)).Reload()
    expected = {(key, row['step']): row[key] for row in rows_of(runner) for key in row if key not in ('step', 'iter')}
    found = {(key, each.step): each.value for key in shown.Tags()['scalars'] for each in shown.Scalars(key)}
    assert {'loss', 'health/student_rankme_pooled'} <= set(shown.Tags()['scalars'])
    assert {key: found[key] for key in expected} == pytest.approx(expected, rel=1e-5)
    for name in ('features', 'reconstruction'):
        (picture,) = shown.Images(name)
        assert picture.step == runner.max_iters
        assert picture.height > 4 * 200  # a row for each image of the batch


@VISBACKENDS.register_module(force=True)
class ListTracker(BaseVisBackend):
    """In place of the program whose library is not here."""

    given: list = []  # noqa: RUF012

    def __init__(self, save_dir, **options):
        super().__init__(save_dir)
        self.given.append(('options', options))

    @property
    def experiment(self):
        return self.given

    def _init_env(self):
        pass

    def add_image(self, name, image, step=0, **kwargs):
        self.given.append((name, image.shape))

    def add_scalars(self, scalar_dict, step=0, file_path=None, **kwargs):
        self.given.extend(scalar_dict.items())

    def add_config(self, config, **kwargs):
        self.given.append(('config', config))


@VISBACKENDS.register_module(force=True)
class ListMLflow(ListTracker, MLflowVisBackend):
    """As MLflow, whose pictures are files."""

    close = BaseVisBackend.close


@pytest.mark.parametrize(('tracker', 'picture'), [('ListTracker', '{}'), ('ListMLflow', '{}.png')])
def test_another_tracker(images, tmp_path, monkeypatch, tracker, picture):
    """Every tracker is a backend of mmengine, and gets config, scalars and pictures."""
    monkeypatch.setattr(ListTracker, 'given', [])
    cfg = pretraining('mae/small', images, tmp_path, pictures=True, probe_data=None)
    cfg.visualizer.vis_backends.append({'type': tracker})
    start(cfg)
    pictures = {picture.format(name) for name in ('features', 'reconstruction')}
    assert {'options', 'config', 'loss', 'health/student_rankme_pooled', *pictures} <= dict(ListTracker.given).keys()


@pytest.mark.parametrize('name', TRACKERS)
def test_names(name, monkeypatch):
    """A name stands for a backend of mmengine that takes the options, once, beside what the config has."""
    monkeypatch.setattr(importlib.util, 'find_spec', lambda package: package)
    local = {'type': 'mmengine.LocalVisBackend'}
    cfg = Config({'visualizer': {'type': 'mmengine.Visualizer', 'vis_backends': [local], 'name': 'mine'}})
    add_tracker(cfg, name)
    add_tracker(cfg, name)
    first, own = cfg.visualizer.vis_backends
    assert first == local
    assert cfg.visualizer.name == 'mine'
    backend = VISBACKENDS.get(own.pop('type'))
    backend('folder', **own)


def test_wandb_sends_nothing_by_itself():
    assert TRACKERS['wandb'].options['init_kwargs']['mode'] == 'offline'


def test_the_option():
    args = build_parser().parse_args(['capi/small', '--tracker', 'tensorboard'])
    COMMAND.prepare(cfg := Config({'work_dir': 'nowhere'}), args)
    assert [backend.type for backend in cfg.visualizer.vis_backends] == [
        'mmengine.LocalVisBackend',
        'mmengine.TensorboardVisBackend',
    ]


def test_what_is_wrong(monkeypatch):
    with pytest.raises(InputError, match=r'--tracker tensorbord: there is no such tracker; did you mean tensorboard\?'):
        add_tracker(Config({}), 'tensorbord')
    with pytest.raises(InputError, match='use one of tensorboard, wandb, mlflow, aim'):
        add_tracker(Config({}), 'paper')
    monkeypatch.setattr(importlib.util, 'find_spec', lambda package: None)
    with pytest.raises(InputError, match='--tracker aim needs a package that is not installed: pip install aim'):
        add_tracker(Config({}), 'aim')
