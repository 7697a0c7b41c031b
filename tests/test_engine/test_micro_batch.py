"""A training that chooses its micro-batches itself."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from mmmim.engine import micro_batch
from mmmim.engine.micro_batch import CHOSEN, choose_micro_batch, sizes
from mmmim.models.layers import Block, compile_blocks
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


class Model(torch.nn.Module):
    """What is asked of a model by what chooses."""

    micro_batch_size = None

    def set_micro_batch_size(self, size):
        self.micro_batch_size = size


def of_seconds(size):
    """A second per micro-batch of 20 images, and four more per image beyond five."""
    return -(-20 // size) + 4 * max(0, size - 5)


@pytest.mark.parametrize('compiled', [False, True])
def test_what_is_measured_is_the_choice(monkeypatch, compiled):
    """Of passes with the seconds of ``of_seconds`` the shortest, and none is counted that compiles."""
    clock, seen, model = SimpleNamespace(now=0.0), set(), Model()
    monkeypatch.setattr(micro_batch.time, 'perf_counter', lambda: clock.now)
    if compiled:
        model.block = Block(8, 2)
        compile_blocks(model, backend='eager')

    def take(runner, model, batch, pieces):
        first = not seen or (compiled and model.micro_batch_size not in seen)
        clock.now += of_seconds(model.micro_batch_size) + 1000 * first
        seen.add(model.micro_batch_size)

    monkeypatch.setattr(micro_batch, '_pass', take)
    size, tried = micro_batch._fastest(None, model, {'inputs': torch.zeros(20)}, sizes(20))
    assert size == 5
    assert tried == '20 (61.00 s), 10 (22.00 s), 5 (4.00 s)'


@pytest.mark.parametrize(
    ('room', 'said'),
    [
        (200, '20 (70% of the memory)'),
        (100, '20 (does not fit), 10 (90% of the memory)'),
        (80, '20 (does not fit), 10 (112% of the memory), 5 (81% of the memory)'),
        (40, None),
    ],
)
def test_the_largest_that_fits(monkeypatch, room, said):
    """A GPU of which 100 bytes are there, some of them taken by others; a pass takes 5 bytes per image and 20."""
    model, peak = Model(), SimpleNamespace(bytes=0)
    weight = torch.zeros(1, dtype=torch.uint8)  # whose moments are 2 bytes
    weights = SimpleNamespace(state={}, param_groups=[{'params': [weight] * 10}])
    runner = SimpleNamespace(optim_wrapper=SimpleNamespace(optimizer=weights, zero_grad=lambda: None))
    memory = {
        'mem_get_info': lambda device: (room, 1000),
        'memory_reserved': lambda device: 0,
        'max_memory_reserved': lambda device: peak.bytes,
        'empty_cache': lambda: None,
        'reset_peak_memory_stats': lambda device: None,
    }
    for name, function in memory.items():
        monkeypatch.setattr(torch.cuda, name, function)

    def take(runner, model, batch, pieces):
        assert pieces == 1
        peak.bytes = 5 * model.micro_batch_size + 20
        if peak.bytes > room:
            raise torch.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(micro_batch, '_pass', take)
    batch = {'inputs': torch.zeros(20)}
    if said is None:
        with pytest.raises(InputError, match=r'no micro-batch fits \(20 \(does not fit\).* 5 \(does not fit\)\): set'):
            micro_batch._largest(runner, model, batch, sizes(20))
    else:
        assert micro_batch._largest(runner, model, batch, sizes(20)) == (model.micro_batch_size, said)
        assert said.count(')') == sizes(20).index(model.micro_batch_size) + 1


def test_processes_choose_the_same(group, monkeypatch):
    """Batches of 7 and 6 images, of which one process is slow with large micro-batches and the other with small."""
    tries, passes = sizes(7), []
    assert tries == [7, 4]

    def process(rank):
        model, clock = Model(), SimpleNamespace(now=0.0)
        model.data_preprocessor = lambda data, training: data
        model.micro_batch_to_choose = True
        runner = SimpleNamespace(
            model=model,
            iter=0,
            optim_wrapper=SimpleNamespace(zero_grad=lambda: None),
            message_hub=SimpleNamespace(get_info=lambda key: None, update_info=lambda key, value: None),
        )

        def take(runner, model, batch, pieces):
            passes.append(model.micro_batch_size)
            dist.all_reduce(torch.zeros(1))  # waits for ever where another process makes fewer
            clock.now += {0: {7: 2.0, 4: 3.0}, 1: {7: 5.0, 4: 1.0}}[rank][model.micro_batch_size]

        monkeypatch.setattr(micro_batch.time, 'perf_counter', lambda: clock.now)
        monkeypatch.setattr(micro_batch, '_pass', take)
        said = choose_micro_batch(runner, {'inputs': torch.zeros(7 - rank)})
        assert passes == [7, 7, 4]
        assert model.micro_batch_size == 4
        assert said == 'micro-batches of 4 images, the fastest of: 7 (5.00 s), 4 (3.00 s)'

    group(process)


def test_models_that_are_divided(monkeypatch):
    monkeypatch.setattr(micro_batch, 'is_sharded', lambda runner: True)
    with pytest.raises(InputError, match='divided among processes: give a number'):
        choose_micro_batch(None, {})
