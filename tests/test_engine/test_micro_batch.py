"""A training that chooses its micro-batches itself."""

from types import SimpleNamespace

import pytest
import torch

from mmmim.engine import micro_batch
from mmmim.engine.micro_batch import CHOSEN, choose_micro_batch, sizes
from mmmim.utils import InputError
from tests.runs import assert_same, load, log_of, pretraining, start
from tests.shrink import write_images


@pytest.fixture
def images(tmp_path):
    write_images(tmp_path / 'images')
    return tmp_path / 'images'


@pytest.fixture
def three(monkeypatch):
    """Passes are made as always, and three images are the fastest."""
    fastest = micro_batch._fastest
    monkeypatch.setattr(micro_batch, '_fastest', lambda *args: (3 * bool(fastest(*args)[0]), 'tried'))


def test_sizes():
    assert sizes(32) == [32, 16, 8, 4]
    assert sizes(13) == [13, 7, 4]
    assert sizes(3) == [3]


@pytest.mark.parametrize('config', ['capi/small', 'latent_mim/small', 'mae/small'])
def test_the_choice_leaves_no_trace(config, images, tmp_path, three):
    states = []
    for size in ('auto', 3):
        cfg = pretraining(config, images, tmp_path / str(size), train_cfg__max_iters=2, model__micro_batch_size=size)
        runner = start(cfg)
        assert runner.model.micro_batch_size == 3
        states.append(load(tmp_path / str(size) / 'iter_2.pth')['state_dict'])
        if size == 'auto':
            assert 'micro-batches of 3 images, the fastest of: tried' in log_of(runner)
            assert runner.model.teacher is None or runner.model.teacher.micro_batch_size == 3
    assert_same(*states)


def test_a_resumed_training_keeps_the_choice(images, tmp_path, three, monkeypatch):
    options = {'model__micro_batch_size': 'auto', 'train_cfg__max_iters': 2}
    start(pretraining('mae/small', images, tmp_path / 'run', **options))
    monkeypatch.setattr(micro_batch, '_fastest', None)  # is not asked again
    options['train_cfg__max_iters'] = 3
    runner = start(pretraining('mae/small', images, tmp_path / 'run', resume=True, **options))
    assert runner.model.micro_batch_size == 3
    assert 'micro-batches of 3 images, as before' in log_of(runner)
    assert runner.message_hub.get_info(CHOSEN) == 3


def test_what_is_measured_is_the_choice(monkeypatch):
    """Of passes that take a second per micro-batch, and one more per image beyond five, the one with the least."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(micro_batch.time, 'perf_counter', lambda: clock.now)
    model = SimpleNamespace(set_micro_batch_size=lambda size: setattr(model, 'micro_batch_size', size))

    def take(runner, model, batch, pieces):
        clock.now += -(-20 // model.micro_batch_size) + 4 * max(0, model.micro_batch_size - 5)

    monkeypatch.setattr(micro_batch, '_pass', take)
    size, tried = micro_batch._fastest(None, model, {'inputs': torch.zeros(20)})
    assert size == 5
    assert tried == '20 (61.00 s), 10 (22.00 s), 5 (4.00 s)'


def test_models_that_are_divided(monkeypatch):
    monkeypatch.setattr(micro_batch, 'is_sharded', lambda runner: True)
    with pytest.raises(InputError, match='divided among processes: give a number'):
        choose_micro_batch(None, {})
