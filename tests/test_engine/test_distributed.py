"""Several gloo processes with the same global batch take the steps of one process."""

from contextlib import nullcontext

import pytest
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from mmmim.engine import DistributedDataParallel, FullyShardedDataParallel, OptimWrapper
from mmmim.evaluation.measures.health import target_entropy
from mmmim.evaluation.probes.logistic_regression import fit_logistic_regression
from mmmim.models.layers import Block, blocks_of
from mmmim.registry import MODELS, STRATEGIES
from tests.registered import method_batch, method_config
from tests.runs import assert_same
from tests.test_engine import test_health_hook as health_hook
from tests.toys import DIM, PATCH, batch, blobs, capi_config, mae_config, optim_wrapper

STEPS, IMAGES = 3, 11
PARTS = {1: [slice(0, 11)], 2: [slice(0, 6), slice(6, 11)], 3: [slice(0, 4), slice(4, 8), slice(8, 11)]}


def of_all(value):
    """The values of all processes."""
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def build(positional=True, micro_batch_size=None):
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


def weights_of(model):
    state = getattr(model, 'module', model).state_dict()
    return {key: value.full_tensor() if isinstance(value, DTensor) else value.clone() for key, value in state.items()}


def assert_divided(model):
    """Every process holds its part alone, of all and of every block."""
    assert all(isinstance(p, DTensor) for p in model.parameters())
    for part in [model, *(part for part in model.modules() if isinstance(part, Block))]:
        own = sum(p.to_local().numel() for p in part.parameters())
        assert own < 1.2 / dist.get_world_size() * sum(p.numel() for p in part.parameters())


def steps(model, wrapper, rank=0, world_size=1):
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
    return losses, assignments, weights_of(model)


# The batch of 11 is divided 6 : 5 or 4 : 4 : 3; in micro-batches of 4 the last ones are of 2, 1 or 3 images.
@pytest.mark.parametrize(
    ('world_size', 'kind', 'positional', 'micro_batch_size', 'clip_norm'),
    [
        (2, 'ddp', True, None, None),
        (2, 'ddp', False, 4, None),
        (2, 'fsdp', True, 4, 0.5),
        (2, 'fsdp_reduced_once', True, 4, None),
        (3, 'ddp', True, 2, None),
        (3, 'fsdp', False, None, None),
    ],
)
def test_processes_are_one(group, world_size, kind, positional, micro_batch_size, clip_norm):
    model = build(positional)
    expected = steps(model, optim_wrapper(model, clip_norm=clip_norm))
    sizes = torch.tensor([float(part.stop - part.start) for part in PARTS[world_size]])
    assert clip_norm is None or expected[0][0]['grad_norm'] > 1.1 * clip_norm

    def process(rank):
        model = wrap(build(positional, micro_batch_size), kind)
        own = steps(model, optim_wrapper(model, clip_norm=clip_norm), rank, world_size)
        losses, assignments, weights = zip(*of_all(own), strict=True)
        for step in range(STEPS):
            for key, value in expected[0][step].items():
                # Losses are means over a rank's images; gradient norm and flag are of the averaged gradients.
                mean = (torch.stack([each[step][key] for each in losses]) * sizes).sum() / IMAGES
                torch.testing.assert_close(mean, value, rtol=1e-5, atol=1e-6, msg=lambda m, k=key: f'{k}: {m}')
            found = torch.cat([each[step] for each in assignments])
            torch.testing.assert_close(found, expected[1][step], rtol=1e-4, atol=1e-6)
        assert_same(own[2], weights[0])
        torch.testing.assert_close(own[2], expected[2], rtol=1e-4, atol=1e-5)
        if kind != 'ddp':
            assert_divided(model)

    group(process, world_size)


@pytest.mark.parametrize('kind', ['ddp', 'fsdp'])
def test_a_bad_image_on_one_rank_skips_the_step_on_all(group, kind):
    def process(rank):
        model = wrap(build(), kind)
        wrapper, before = optim_wrapper(model), weights_of(model)
        for bad in (True, False):
            data = batch(4, seed=rank)
            if bad and rank == 1:
                data['inputs'][0] = float('nan')
            assert model.train_step(data, wrapper)['skipped'] == bad
            model.module.teacher.update(model.module, 0.5, wrapper.skipped)
            assert all(value.equal(before[key]) for key, value in weights_of(model).items()) == bad

    group(process)


def test_parts_of_a_sharded_model_can_be_called(group):
    """Features, predictor pooling and teacher, before the first step and between steps, are those of whole weights.

    Every image is there twice, once on each process, which changes neither assignments nor mean losses.
    """

    def run(model, algorithm, gathered=nullcontext, check=lambda model: None):
        wrapper, results = optim_wrapper(model), []
        for _ in range(2):
            with torch.no_grad(), gathered():
                images = batch(4)['inputs']
                context = algorithm.backbone(images)
                results += [context.visible, algorithm.branches['capi'].neck.global_feature(context)]
                results.append(algorithm.teacher.backbone(images).visible)
            check(model)
            results.append(model.val_step(batch(4))[0]['loss'])
            check(model)
            model.train_step(batch(4), wrapper)
            algorithm.teacher.update(algorithm, 0.5, wrapper.skipped)
        return results

    model = build()
    expected = run(model, model)

    def process(rank):
        model = wrap(build(), 'fsdp')
        found = run(model, model.module, model.gathered, assert_divided)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)

    group(process)


def test_when_gradients_are_reduced(group):
    """After a micro-batch that is not the last, or not yet."""

    def process(rank):
        for kind, reduced in (('fsdp', True), ('fsdp_reduced_once', False)):
            model, data = wrap(build(micro_batch_size=2), kind), batch(4)
            targets = model.module.targets(data['inputs'], data['mask'])
            with model.no_sync():
                sum(model(data['inputs'], data['mask'], targets=targets, mode='loss').values()).backward()
            assert any(parameter.grad is not None for parameter in model.parameters()) == reduced

    group(process)


def test_blocks_gathered_in_bfloat16(group):
    """Only the rounding of the norms' weights is another, which are ones before the first step."""

    def run(rank, model, expected):
        seen = set()
        for block in [part for part in model.modules() if isinstance(part, Block)]:
            block.register_forward_pre_hook(lambda m, _: seen.add(m.mlp.fc1.weight.dtype))
        wrapper = optim_wrapper(model, dtype='bfloat16')
        losses = [model.train_step(batch(4, seed=10 * step + rank), wrapper) for step in range(3)]
        assert seen == {expected}
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
        return losses, weights_of(model)

    def process(rank):
        losses, weights = run(rank, wrap(build(micro_batch_size=2), 'ddp'), torch.float32)
        model = build(micro_batch_size=2)
        model = FullyShardedDataParallel(model, init_device_mesh('cpu', (2,)), param_dtype='bfloat16')
        others, other_weights = run(rank, model, torch.bfloat16)
        with torch.no_grad(), model.gathered():
            assert model.module.backbone(batch(4)['inputs']).visible.isfinite().all()
        torch.testing.assert_close(others[0], losses[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(others[1:], losses[1:], rtol=5e-2, atol=1e-3)
        differences = torch.stack([(other_weights[key] - value).abs().max() for key, value in weights.items()])
        assert 1e-6 < differences.max() < 2e-3

    group(process)


def test_an_overflow_on_one_rank_skips_and_halves_on_all(group):
    def process(rank):
        model = DistributedDataParallel(torch.nn.Linear(2, 1))
        wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1, fused=True), 'float16', loss_scale=8.0)
        for step in range(3):
            wrapper.backward(model.module(torch.ones(1, 2)).sum())  # not synchronised: gradients of a rank's own
            if step == 0 and rank == 1:
                model.module.weight.grad.fill_(float('inf'))
            wrapper.step()
            wrapper.zero_grad()
            assert (wrapper.skipped, wrapper.step_info['loss_scale']) == ((1, 8) if step == 0 else (0, 4))

    group(process)


def test_health_is_reported_by_the_first_process(group):
    """It has the assignments of its images, which are balanced over the images of both; training stays as it is."""
    runner, data = health_hook.train('capi', iterations=3), batch(24, seed=2)
    targets = runner.model.targets(data['inputs'], data['mask'])['capi'].patches

    def half(images, seed):
        data, rows = batch(images, seed=seed), slice(dist.get_rank() * images // 2, (dist.get_rank() + 1) * images // 2)
        return {'inputs': data['inputs'][rows], 'mask': data['mask'].images(rows.start, rows.stop, images)}

    def process(rank):
        options = {'iterations': 3, 'interval': 2, 'data': half, 'wrap': DistributedDataParallel}
        runs = [health_hook.train('capi', hook=hook, **options) for hook in (True, False)]
        assert_same(*(run.model.state_dict() for run in runs))
        reports = runs[0].logger.scalars
        assert list(reports) == ([1, 2, 3] if rank == 0 else [])
        for rows, equal in ((targets[:12], True), (targets, False)) if rank == 0 else ():
            expected = pytest.approx(target_entropy(rows).item(), rel=1e-4)
            assert (reports[3]['health/capi_target_entropy'] == expected) is equal

    group(process)


def test_it_is_a_strategy_of_mmengine(group, tmp_path):
    """Without our runner, as mmengine's FlexibleRunner calls it; a resumed run goes on."""
    file = str(tmp_path / 'strategy.pth')

    def prepare():
        environment = {'launcher': 'pytorch', 'randomness': {'seed': 0}}
        strategy = STRATEGIES.build(
            {'type': 'mmmim.FSDP2Strategy', 'work_dir': str(tmp_path), 'env_kwargs': environment}
        )
        optimizer = {'type': 'AdamW', 'lr': 1e-3, 'fused': True}
        wrapper = {'type': 'mmmim.OptimWrapper', 'optimizer': optimizer}
        return strategy, *strategy.prepare(capi_config(), optim_wrapper=wrapper)

    def process(rank):
        strategy, model, wrapper = prepare()
        model.train_step(batch(4, seed=rank), wrapper)
        strategy.save_checkpoint(file, extra_ckpt={'meta': {'iter': 1}})
        loss = model.train_step(batch(4, seed=2 + rank), wrapper)['loss']
        strategy, model, wrapper = prepare()
        assert model.val_step(batch(4, seed=2 + rank))[0]['loss'] != loss
        strategy.resume(file, map_location='cpu')
        assert model.train_step(batch(4, seed=2 + rank), wrapper)['loss'] == loss

    group(process)


def test_logistic_regression_of_all_parts(group):
    x, y = blobs(300, 10, 4, seed=3, spread=3.0)

    def fit(samples=slice(None), **options):
        penalties = (1e-3, 1.0, 100.0)
        return fit_logistic_regression(x.double()[samples], y[samples], 4, penalties, max_iter=30, **options)

    expected = fit()

    def process(rank):
        own = (slice(0, 210), slice(210, 300))[rank]
        first, second = of_all(fit(own, distributed=True))
        assert torch.equal(first, second)
        torch.testing.assert_close(first, expected, rtol=1e-8, atol=1e-8)
        assert not torch.allclose(fit(own), expected, atol=1e-2)

    group(process)


def frozen_model():
    """A MAE-like model whose targets and masks are those of a frozen encoder."""
    config = mae_config()
    teacher = {'embed_dim': DIM, 'depth': 2, 'num_heads': 2, 'img_size': 16, 'patch_size': PATCH}
    config['branches']['pixels']['target_generator'] = dict(
        type='mmmim.FrozenTarget', checkpoint='random', encoder={'type': 'mmmim.ViT', **teacher}, in_dim=DIM
    )
    config['branches']['pixels']['neck']['out_dim'] = DIM
    torch.manual_seed(0)
    model = MODELS.build({**config, 'micro_batch_size': 3})
    model.init_weights()
    return model.train()


def steps_of_frozen(model, rank, world_size):
    """Losses and weights after steps on a rank's part of the batches."""
    part, wrapper, losses = PARTS[world_size][rank], optim_wrapper(model), []
    for step in range(STEPS):
        data = batch(IMAGES, seed=step)
        mask = data['mask'].images(part.start, part.stop, IMAGES)
        losses.append(model.train_step({'inputs': data['inputs'][part], 'mask': mask}, wrapper)['loss'])
    return losses, weights_of(model)


@pytest.mark.parametrize('kind', ['ddp', 'fsdp'])
def test_frozen_teachers_are_whole_in_every_process(group, kind):
    _, expected = steps_of_frozen(frozen_model(), 0, 1)

    def process(rank):
        model = wrap(frozen_model(), kind)
        teacher = getattr(model, 'module', model).branches.pixels.target_generator.teacher
        assert not any(isinstance(p, DTensor) for p in teacher.parameters())
        losses, found = steps_of_frozen(model, rank, 2)
        assert losses[-1] < losses[0]
        assert found.keys() == expected.keys()
        for key, value in found.items():
            if not key.endswith('k_proj.bias'):  # softmax does not see it, and AdamW makes steps of rounding
                torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)

    group(process)


@pytest.mark.parametrize('name', ['mae/small', 'maskfeat/small', 'semantic_mim/maskfeat_small'])
def test_last_blocks_that_are_divided(group, name):
    """What is read of the last block of a predictor, of patches and of proxies, where processes hold parts of it."""

    def losses(model):
        wrapper = optim_wrapper(model)
        return [model.train_step(method_batch(name, seed=step), wrapper)['loss'] for step in range(STEPS)]

    def make():
        torch.manual_seed(0)
        model = MODELS.build(method_config(name)).train()
        for block in blocks_of(model):
            block.drop_path = 0.0
        return model

    expected = losses(make())

    def process(rank):
        torch.testing.assert_close(losses(wrap(make(), 'fsdp')), expected, rtol=1e-4, atol=1e-5)

    group(process)
