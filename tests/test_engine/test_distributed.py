"""Several gloo processes with the same global batch take the steps of one process."""

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from mmmim.engine import DistributedDataParallel, FullyShardedDataParallel, OptimWrapper
from mmmim.evaluation.measures.health import target_entropy
from mmmim.evaluation.probes.logistic_regression import fit_logistic_regression
from mmmim.models.layers import Block
from mmmim.registry import MODELS, STRATEGIES
from tests.processes import run_group
from tests.runs import assert_same
from tests.test_engine import test_health_hook as health_hook
from tests.toys import batch, blobs, capi_config, optim_wrapper

STEPS, IMAGES = 3, 11
PARTS = {1: [slice(0, 11)], 2: [slice(0, 6), slice(6, 11)], 3: [slice(0, 4), slice(4, 8), slice(8, 11)]}

#: By number of processes: wrapper, positional, micro-batch size, norm that gradients are clipped to.
# The batch of 11 is divided 6 : 5 or 4 : 4 : 3; in micro-batches of 4 the last ones are of 2, 1 or 3 images.
CASES = {
    2: [
        ('ddp', True, None, None),
        ('ddp', True, 4, None),
        ('ddp', False, None, None),
        ('fsdp', True, None, None),
        ('fsdp', True, 4, 0.5),
        ('fsdp_reduced_once', True, 4, None),
    ],
    3: [('ddp', True, 2, None), ('fsdp', False, 2, None)],
}


def whole(tensor):
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor.clone()


def weights_of(model):
    return {key: whole(value) for key, value in getattr(model, 'module', model).state_dict().items()}


def steps(model, wrapper, rank, world_size):
    """Losses, assignments and weights of a rank after three steps on its part of the global batches."""
    algorithm = getattr(model, 'module', model)
    part = PARTS[world_size][rank]
    losses, assignments = [], []
    for step in range(STEPS):
        data = batch(IMAGES, seed=step)
        data = {'inputs': data['inputs'][part], 'mask': data['mask'].images(part.start, part.stop, IMAGES)}
        with torch.no_grad():
            targets = algorithm.targets(data['inputs'], data['mask'])
        assignments.append(targets['capi'].patches)
        losses.append(model.train_step(data, wrapper))
        algorithm.teacher.update(algorithm, 0.9, wrapper.skipped)
    return {'losses': losses, 'assignments': assignments, 'weights': weights_of(model)}


def build(positional, micro_batch_size):
    torch.manual_seed(0)
    config = capi_config(micro_batch_size=micro_batch_size)
    config['branches']['capi']['target_generator'].update(
        positional=positional, chunk_positions=3 if positional else None
    )
    model = MODELS.build(config)
    model.init_weights()
    return model.train()


def wrap(model, kind):
    if kind == 'ddp':
        return DistributedDataParallel(model)
    mesh = init_device_mesh('cpu', (dist.get_world_size(),))
    return FullyShardedDataParallel(model, mesh, reduce_every_micro_batch=kind == 'fsdp')


def held(model):
    """Share of the parameters that this process holds, of all and in the blocks alone, and how many are whole."""

    def share(module):
        own = sum(p.to_local().numel() if isinstance(p, DTensor) else p.numel() for p in module.parameters())
        return own / sum(p.numel() for p in module.parameters())

    blocks = max(share(part) for part in model.modules() if isinstance(part, Block))
    return share(model), blocks, sum(not isinstance(p, DTensor) for p in model.parameters())


def skip_step(kind, rank):
    """A step in which one image of the second process is not a number."""
    model = wrap(build(True, None), kind)
    wrapper, data = optim_wrapper(model), batch(4, seed=rank)
    before = weights_of(model)
    if rank == 1:
        data['inputs'][0] = float('nan')
    losses = model.train_step(data, wrapper)
    model.module.teacher.update(model.module, 0.5, wrapper.skipped)
    after = weights_of(model)
    first = {'skipped': losses['skipped'], 'same': all(torch.equal(after[key], before[key]) for key in before)}
    losses = model.train_step(batch(4, seed=rank), wrapper)
    after = weights_of(model)
    return first, {'skipped': losses['skipped'], 'same': all(torch.equal(after[key], before[key]) for key in before)}


def parts_outside_of_forward(rank):
    """Parts of a sharded model that are called directly, first of all and between two steps."""
    model = wrap(build(True, None), 'fsdp')
    wrapper, images = optim_wrapper(model), batch(4)['inputs']
    results = []
    for step in range(2):
        with torch.no_grad(), model.gathered():
            context = model.module.backbone(images)
            pooled = model.module.branches['capi'].neck.global_feature(context)
            teacher = model.module.teacher.backbone(images)
        results.append((context.visible, pooled, teacher.visible, held(model)))
        losses = model.val_step(batch(4, seed=step))[0]
        results.append((losses['loss'], held(model)))
        model.train_step(batch(4, seed=rank), wrapper)
        model.module.teacher.update(model.module, 0.5, wrapper.skipped)
    return results


def reduced_between_micro_batches(kind):
    """Number of gradients that have been reduced after a micro-batch that is not the last."""
    model, data = wrap(build(True, 2), kind), batch(4)
    targets = model.module.targets(data['inputs'], data['mask'])
    with model.no_sync():
        sum(model(data['inputs'], data['mask'], targets=targets, mode='loss').values()).backward()
    return sum(parameter.grad is not None for parameter in model.parameters())


def bfloat16_steps(rank):
    """Losses of three steps under autocast: data-parallel, and sharded with blocks gathered in bfloat16."""
    results = []
    for dtype in (None, 'bfloat16'):
        model = build(True, 2)
        if dtype is None:
            model = wrap(model, 'ddp')
        else:
            model = FullyShardedDataParallel(model, init_device_mesh('cpu', (2,)), param_dtype=dtype)
        seen = set()
        for block in [part for part in model.modules() if isinstance(part, Block)]:
            block.register_forward_pre_hook(lambda m, _, seen=seen: seen.add(m.mlp.fc1.weight.dtype))
        wrapper = optim_wrapper(model, dtype='bfloat16')
        losses = [model.train_step(batch(4, seed=10 * step + rank), wrapper) for step in range(3)]
        if dtype is not None:
            with torch.no_grad(), model.gathered():
                assert model.module.backbone(batch(4)['inputs']).visible.isfinite().all()
        assert seen == {torch.bfloat16 if dtype else torch.float32}
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
        results.append((losses, weights_of(model)))
    return results


def strategy_of_mmengine(rank, folder):
    """The strategy without our runner, as mmengine's FlexibleRunner calls it: losses of a run and of a resumed one."""

    def prepare():
        environment = {'launcher': 'pytorch', 'randomness': {'seed': 0}}
        strategy = STRATEGIES.build({'type': 'mmmim.FSDP2Strategy', 'work_dir': folder, 'env_kwargs': environment})
        optimizer = {'type': 'AdamW', 'lr': 1e-3, 'fused': True}
        return strategy, *strategy.prepare(
            capi_config(), optim_wrapper={'type': 'mmmim.OptimWrapper', 'optimizer': optimizer}
        )

    strategy, model, wrapper = prepare()
    model.train_step(batch(4, seed=rank), wrapper)
    strategy.save_checkpoint(f'{folder}/strategy.pth', extra_ckpt={'meta': {'iter': 1}})
    loss = model.train_step(batch(4, seed=2 + rank), wrapper)['loss']
    strategy, model, wrapper = prepare()
    fresh = model.val_step(batch(4, seed=2 + rank))[0]['loss']
    strategy.resume(f'{folder}/strategy.pth', map_location='cpu')
    return loss, model.train_step(batch(4, seed=2 + rank), wrapper)['loss'], fresh


def overflow(rank):
    """Skipped and loss scale of three float16 steps, of which one process's first is not finite."""
    model = DistributedDataParallel(torch.nn.Linear(2, 1))
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1, fused=True), 'float16', loss_scale=8.0)
    scales = []
    for step in range(3):
        wrapper.backward(model.module(torch.ones(1, 2)).sum())  # not synchronised: gradients of a rank's own
        if step == 0 and rank == 1:
            model.module.weight.grad.fill_(float('inf'))
        wrapper.step()
        wrapper.zero_grad()
        scales.append((wrapper.skipped.item(), wrapper.step_info['loss_scale'].item()))
    return scales


def health(rank):
    """Whether reports change the training, and what they say."""

    def half(images, seed):
        data, rows = batch(images, seed=seed), slice(rank * images // 2, (rank + 1) * images // 2)
        return {'inputs': data['inputs'][rows], 'mask': data['mask'].images(rows.start, rows.stop, images)}

    options = {'iterations': 3, 'interval': 2, 'data': half, 'wrap': DistributedDataParallel}
    runs = [health_hook.train('capi', hook=hook, **options) for hook in (True, False)]
    assert_same(*(run.model.state_dict() for run in runs))
    return runs[0].logger.scalars


def logistic_regression(samples=slice(None), **options):
    """Weights of three penalties, fitted on some of 300 samples."""
    x, y = blobs(300, 10, 4, seed=3, spread=3.0)
    return fit_logistic_regression(x.double()[samples], y[samples], 4, (1e-3, 1.0, 100.0), max_iter=30, **options)


def worker(folder, world_size):
    torch.set_num_threads(1)
    dist.init_process_group('gloo')
    rank = dist.get_rank()
    results = {}
    for case in CASES[world_size]:
        kind, positional, micro_batch_size, clip_norm = case
        model = wrap(build(positional, micro_batch_size), kind)
        results[case] = steps(model, optim_wrapper(model, clip_norm=clip_norm), rank, world_size)
        results[case]['held'] = held(model)
    if world_size == 2:
        results |= {kind: skip_step(kind, rank) for kind in ('ddp', 'fsdp')}
        results['parts'] = parts_outside_of_forward(rank)
        results['reduced'] = [reduced_between_micro_batches(kind) for kind in ('fsdp', 'fsdp_reduced_once')]
        results['bfloat16'] = bfloat16_steps(rank)
        results['overflow'], results['health'] = overflow(rank), health(rank)
        results['strategy'] = strategy_of_mmengine(rank, folder)
        own = (slice(0, 210), slice(210, 300))[rank]
        results['logistic regression'] = logistic_regression(own, distributed=True), logistic_regression(own)
    torch.save(results, f'{folder}/{rank}.pth')
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory):
    """What the processes of a run of so many return."""
    done = {}

    def run(world_size):
        if world_size not in done:
            folder = tmp_path_factory.mktemp(f'processes{world_size}')
            run_group(lambda: worker(folder, world_size), folder / 'log', world_size)
            done[world_size] = [torch.load(folder / f'{rank}.pth') for rank in range(world_size)]
        return done[world_size]

    return run


@pytest.mark.parametrize(('world_size', 'case'), [(size, case) for size, cases in CASES.items() for case in cases])
def test_processes_are_one(ranks, world_size, case):
    ranks = [rank[case] for rank in ranks(world_size)]
    kind, positional, _, clip_norm = case
    sizes = torch.tensor([float(part.stop - part.start) for part in PARTS[world_size]])
    model = build(positional, None)
    expected = steps(model, optim_wrapper(model, clip_norm=clip_norm), 0, 1)
    for step in range(STEPS):
        for key, value in expected['losses'][step].items():
            # Losses are means over a rank's images; gradient norm and flag are of the averaged gradients.
            values = torch.stack([rank['losses'][step][key] for rank in ranks])
            mean = (values * sizes).sum() / IMAGES
            torch.testing.assert_close(mean, value, rtol=1e-5, atol=1e-6, msg=lambda m, k=key: f'{k}: {m}')
        if clip_norm is not None:
            assert expected['losses'][step]['grad_norm'] > 1.1 * clip_norm
        assignments = torch.cat([rank['assignments'][step] for rank in ranks])
        torch.testing.assert_close(assignments, expected['assignments'][step], rtol=1e-4, atol=1e-6)
    for key, value in expected['weights'].items():
        assert all(torch.equal(ranks[0]['weights'][key], rank['weights'][key]) for rank in ranks), key
        torch.testing.assert_close(
            ranks[0]['weights'][key], value, rtol=1e-4, atol=1e-5, msg=lambda m, k=key: f'{k}: {m}'
        )
    for rank in ranks:
        total, block, number_whole = rank['held']
        if kind == 'ddp':
            assert (total, block) == (1, 1)
        else:
            assert max(total, block) < 1.2 / world_size
            assert number_whole == 0


@pytest.mark.parametrize('kind', ['ddp', 'fsdp'])
def test_a_bad_image_on_one_rank_skips_the_step_on_all(ranks, kind):
    for rank in ranks(2):
        bad, good = rank[kind]
        assert bad == {'skipped': 1, 'same': True}
        assert good == {'skipped': 0, 'same': False}


def test_parts_of_a_sharded_model_can_be_called(ranks):
    """Features, predictor pooling and teacher, before the first step and between steps, are those of whole weights."""
    first, second = (rank['parts'] for rank in ranks(2))
    model = build(True, None)
    wrapper = optim_wrapper(model)
    for step in range(2):
        images = batch(4)['inputs']
        with torch.no_grad():
            context = model.backbone(images)
            expected = (
                context.visible,
                model.branches['capi'].neck.global_feature(context),
                model.teacher.backbone(images).visible,
            )
        for rank in (first, second):
            *values, now = rank[2 * step]
            torch.testing.assert_close(tuple(values), expected, rtol=1e-4, atol=1e-5)
            # Afterwards every process holds its part alone, also after validation.
            for total, block, number_whole in (now, rank[2 * step + 1][1]):
                assert max(total, block) < 0.6
                assert number_whole == 0
            # Every image is there twice, once on each process, which changes neither assignments nor mean losses.
            loss = model.val_step(batch(4, seed=step))[0]['loss']
            torch.testing.assert_close(rank[2 * step + 1][0], loss, rtol=1e-5, atol=1e-6)
        parts = [batch(4, seed=rank) for rank in range(2)]
        masks = [part['mask'] for part in parts]
        both = {
            'inputs': torch.cat([part['inputs'] for part in parts]),
            'mask': type(masks[0])(
                visible=torch.cat([mask.visible for mask in masks]),
                predict=torch.cat([mask.predict for mask in masks]),
                image_index=torch.arange(8),
                grid=masks[0].grid,
            ),
        }
        model.train_step(both, wrapper)
        model.teacher.update(model, 0.5, wrapper.skipped)


def test_when_gradients_are_reduced(ranks):
    for rank in ranks(2):
        each, once = rank['reduced']
        assert each > 10
        assert once == 0


def test_blocks_gathered_in_bfloat16(ranks):
    """Only the rounding of the norms' weights is another, which are ones before the first step."""
    for rank in ranks(2):
        (losses, weights), (others, other_weights) = rank['bfloat16']
        torch.testing.assert_close(others[0], losses[0], rtol=1e-5, atol=1e-6)
        for step in range(1, 3):
            torch.testing.assert_close(others[step], losses[step], rtol=5e-2, atol=1e-3)
        for key, value in weights.items():
            assert (other_weights[key] - value).abs().max() < 2e-3, key
    assert any((other_weights[key] - value).abs().max() > 1e-6 for key, value in weights.items())


def test_an_overflow_on_one_rank_skips_and_halves_on_all(ranks):
    for rank in ranks(2):
        assert rank['overflow'] == [(1.0, 8.0), (0.0, 4.0), (0.0, 4.0)]


def test_health_is_reported_by_the_first_process(ranks):
    """It has the assignments of its images, which are balanced over the images of both."""
    first, second = (rank['health'] for rank in ranks(2))
    assert (list(first), list(second)) == ([1, 2, 3], [])
    runner, data = health_hook.train('capi', iterations=3), batch(24, seed=2)
    targets = runner.model.targets(data['inputs'], data['mask'])['capi'].patches
    for rows, equal in ((targets[:12], True), (targets, False)):
        expected = target_entropy(rows).item()
        assert (first[3]['health/capi_target_entropy'] == pytest.approx(expected, rel=1e-4)) is equal


def test_it_is_a_strategy_of_mmengine(ranks):
    for rank in ranks(2):
        loss, resumed, fresh = rank['strategy']
        assert resumed == loss != fresh


def test_logistic_regression_of_all_parts(ranks):
    (first, alone), (second, _) = (rank['logistic regression'] for rank in ranks(2))
    expected = logistic_regression()
    assert torch.equal(first, second)
    torch.testing.assert_close(first, expected, rtol=1e-8, atol=1e-8)
    assert not torch.allclose(alone, expected, atol=1e-2)
