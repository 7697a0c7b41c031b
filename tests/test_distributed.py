"""Several gloo processes with the same global batch take the steps of one process."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from mmmim.engine import DistributedDataParallel
from mmmim.registry import MODELS
from tests.toys import batch, capi_config, optim_wrapper

STEPS, IMAGES = 3, 11
PARTS = {1: [slice(0, 11)], 2: [slice(0, 6), slice(6, 11)], 3: [slice(0, 4), slice(4, 8), slice(8, 11)]}


def steps(model, wrapper, rank, world_size):
    """Losses, assignments and weights of a rank after three steps on its part of the global batches."""
    algorithm = getattr(model, 'module', model)
    part = PARTS[world_size][rank]
    losses, assignments = [], []
    for step in range(STEPS):
        data = batch(IMAGES, seed=step)
        data = {'inputs': data['inputs'][part], 'mask': data['mask'].images(part.start, part.stop, IMAGES)}
        with torch.no_grad():
            targets = algorithm.targets(data['inputs'], data['mask'], differentiable=False)
        assignments.append(targets['capi'].patches)
        losses.append(model.train_step(data, wrapper))
        algorithm.teacher.update(algorithm, 0.9, wrapper.skipped)
    return {'losses': losses, 'assignments': assignments, 'weights': algorithm.state_dict()}


def build(positional, micro_batch_size):
    torch.manual_seed(0)
    config = capi_config(micro_batch_size=micro_batch_size)
    config['branches']['capi']['target_generator'].update(
        positional=positional, chunk_positions=3 if positional else None
    )
    model = MODELS.build(config)
    model.init_weights()
    return model.train()


def worker(rank, folder, positional, micro_batch_size, world_size):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=world_size)
    model = DistributedDataParallel(build(positional, micro_batch_size))
    result = steps(model, optim_wrapper(model), rank, world_size)
    torch.save(result, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ('positional', 'micro_batch_size', 'world_size'),
    # The batch of 11 is divided 6 : 5 or 4 : 4 : 3; in micro-batches of 4 the last ones are of 2, 1 or 3 images.
    [(True, None, 2), (True, 4, 2), (False, None, 2), (True, 2, 3)],
)
def test_processes_are_one(tmp_path, positional, micro_batch_size, world_size):
    mp.spawn(worker, (str(tmp_path), positional, micro_batch_size, world_size), nprocs=world_size)
    ranks = [torch.load(tmp_path / f'{rank}.pth') for rank in range(world_size)]
    sizes = torch.tensor([float(part.stop - part.start) for part in PARTS[world_size]])
    model = build(positional, None)
    expected = steps(model, optim_wrapper(model), 0, 1)
    for step in range(STEPS):
        for key, value in expected['losses'][step].items():
            # Losses are means over a rank's images; gradient norm and flag are of the averaged gradients.
            values = torch.stack([rank['losses'][step][key] for rank in ranks])
            mean = (values * sizes).sum() / IMAGES
            torch.testing.assert_close(mean, value, rtol=1e-5, atol=1e-6, msg=lambda m, k=key: f'{k}: {m}')
        assignments = torch.cat([rank['assignments'][step] for rank in ranks])
        torch.testing.assert_close(assignments, expected['assignments'][step], rtol=1e-4, atol=1e-6)
    for key, value in expected['weights'].items():
        assert all(torch.equal(ranks[0]['weights'][key], rank['weights'][key]) for rank in ranks), key
        torch.testing.assert_close(
            ranks[0]['weights'][key], value, rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f'{k}: {m}'
        )


def skipping_worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2)
    model = DistributedDataParallel(build(True, None))
    wrapper, data = optim_wrapper(model), batch(4, seed=rank)
    before = {key: value.clone() for key, value in model.module.state_dict().items()}
    if rank == 1:
        data['inputs'][0] = float('nan')
    losses = model.train_step(data, wrapper)
    model.module.teacher.update(model.module, 0.5, wrapper.skipped)
    same = all(torch.equal(value, before[key]) for key, value in model.module.state_dict().items())
    torch.save({'skipped': losses['skipped'], 'same': same}, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


def test_a_bad_image_on_one_rank_skips_the_step_on_all(tmp_path):
    mp.spawn(skipping_worker, (str(tmp_path),), nprocs=2)
    for rank in range(2):
        result = torch.load(tmp_path / f'{rank}.pth')
        assert result['skipped'] == 1
        assert result['same']
