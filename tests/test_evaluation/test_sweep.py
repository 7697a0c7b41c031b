"""Many probes as one computation, against each by itself, and the choice among them."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmmim.engine import HeadAdamW, HeadSGD, SweepOptimWrapperConstructor
from mmmim.evaluation.probes.selection import best_of_each, count_accepted, restrict
from mmmim.evaluation.probes.sweep import AttentiveHeads, ProbeSweep, grid, probe_sources
from mmmim.evaluation.probes.trained import ProbeHead, train_probe
from mmmim.utils import InputError

CLASSES, BATCH, STEPS = 3, 4, 4
GRID = [1e-3, 5e-2], [5e-4, 5e-2]
PAIRS = grid(*GRID)


def alone(values, x):
    """A head by the definition: with keys and values of all tokens."""
    if 'query_token' not in values:
        return F.linear(x, values['weight'], values['bias'])
    b, n, d = x.shape
    k, v = F.linear(x, values['kv.weight'], values['kv.bias']).view(b, n, 2, d // 64, 64).permute(2, 0, 3, 1, 4)
    query = values['query_token'].view(1, d // 64, 1, 64).expand(b, -1, -1, -1)
    pooled = F.scaled_dot_product_attention(query, k, v).flatten(1)
    return F.linear(pooled, values['linear.weight'], values['linear.bias'])


def features(seed):
    rng = torch.Generator().manual_seed(seed)
    draw = [torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in ((BATCH, 8), (BATCH, 5, 128))]
    return probe_sources(*draw), torch.randint(CLASSES, (BATCH,), generator=rng)


@pytest.mark.parametrize('reduction', ['mean', 'sum'])
def test_heads_move_as_each_would_alone(reduction):
    """With torch's AdamW, its rate and decay; biases do not decay, nor do those of keys move."""
    batches = [features(seed) for seed in range(STEPS)]
    factors = [0.0, 1.0, 0.6, 0.2]
    sweep = ProbeSweep({name: x.shape[1:] for name, x in batches[0][0].items()}, CLASSES, *GRID).double()
    heads = []
    for source, probe in sweep.probes.items():
        for i, pair in enumerate(PAIRS):
            values = {n: nn.Parameter(p[i].detach().clone()) for n, p in probe.named_parameters()}
            heads.append((source, pair, i, values))
    assert sweep.sources == [source for source, *_ in heads]
    decaying, free = sweep.decaying()
    groups = [{'params': decaying, 'decays': [wd for _, wd in PAIRS]}, {'params': free}]
    optimizer = HeadAdamW(groups, [lr for lr, _ in PAIRS])
    losses = torch.stack(list(train_probe(sweep, optimizer, batches, factors, reduction)))
    for k, (source, (lr, wd), i, values) in enumerate(heads):
        groups = [
            {'params': [p for n, p in values.items() if ('bias' in n) == is_bias], 'weight_decay': decay}
            for is_bias, decay in ((False, wd), (True, 0.0))
        ]
        optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.95))
        for step, ((x, labels), factor) in enumerate(zip(batches, factors, strict=True)):
            for group in optimizer.param_groups:
                group['lr'] = lr * factor
            loss = F.cross_entropy(alone(values, x[source]), labels)
            assert float(losses[step, k]) == pytest.approx(loss.item(), abs=1e-6)
            optimizer.zero_grad()
            (loss / len(heads) if reduction == 'mean' else loss).backward()
            optimizer.step()
        for name, parameter in sweep.probes[source].named_parameters():
            mine, other = parameter[i].detach(), values[name].detach()
            if name == 'kv.bias':  # of keys: rounding of a zero gradient in the other
                assert not mine[:128].any()
                mine, other = mine[128:], other[128:]
            torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('decay', [0.0, 0.1])
def test_heads_of_sgd_move_as_each_would_alone(decay):
    rates, start = [0.1, 0.7], torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    together, alone = nn.Parameter(start.clone()), [nn.Parameter(each.clone()) for each in start]
    optimizers = [HeadSGD([together], rates, decay, lr=0.5)]
    optimizers += [
        torch.optim.SGD([p], rate / 2, momentum=0.9, weight_decay=decay) for p, rate in zip(alone, rates, strict=True)
    ]
    for seed in range(3):
        together.grad = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed))
        for parameter, gradient in zip(alone, together.grad, strict=True):
            parameter.grad = gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(together.detach(), torch.stack([p.detach() for p in alone]))


def test_the_optimiser_of_a_sweep_has_its_grid():
    """Rates and decays of the head; biases do not decay, and ``lr`` is a factor of all."""
    model = nn.Module()
    model.head = ProbeSweep({'a': (4,), 'b': (3, 64)}, CLASSES, *GRID)
    config = {'type': 'mmengine.OptimWrapper', 'optimizer': {'type': 'mmmim.HeadAdamW', 'lr': 4.0}}
    wrapper = SweepOptimWrapperConstructor(config)(model)
    decaying, free = wrapper.optimizer.param_groups
    assert (decaying['rates'], decaying['lr']) == ([rate for rate, _ in PAIRS], 4.0)
    assert (decaying['decays'], free['decays']) == ([decay for _, decay in PAIRS], [0.0] * 4)
    assert {id(p) for group in (decaying, free) for p in group['params']} == {id(p) for p in model.parameters()}
    assert all(parameter.ndim < 3 for parameter in free['params'])
    with pytest.raises(InputError, match=r'paramwise_cfg: rates and decays of a sweep are model\.head\.rates'):
        SweepOptimWrapperConstructor({}, {'layer_decay': 0.5})
    model.head = nn.Linear(2, 2)
    with pytest.raises(InputError, match=r"is for model\.head\.type='mmmim\.ProbeSweep', not Linear"):
        SweepOptimWrapperConstructor(config)(model)


def test_what_does_not_fit():
    with pytest.raises(InputError, match='heads of 64 channels, which do not divide 96'):
        AttentiveHeads(2, 96, 3)
    with pytest.raises(InputError, match=r'2 rates, 3 decays and parameters of \[\(3, 4\)\]'):
        HeadAdamW([nn.Parameter(torch.ones(3, 4))], [1e-3, 1e-2])


@pytest.mark.parametrize(('options', 'std', 'bound'), [({}, 0.01, 0), ({'bias': 'uniform', 'std': 0.02}, 0.02, 0.05)])
def test_the_head_of_a_linear_probe(options, std, bound):
    probe = ProbeHead(400, 100, **options)
    assert probe.linear.weight.std().item() == pytest.approx(std, rel=0.03)
    assert bound * 0.9 <= probe.linear.bias.abs().max().item() <= bound
    x = torch.randn(50, 400) * 1e-3
    normal = (x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + 1e-6).sqrt()
    torch.testing.assert_close(probe.train()(x), probe.linear(normal))
    torch.testing.assert_close(probe.norm.running_var, 0.9 + 0.1 * x.var(dim=0))
    assert isinstance(ProbeHead(4, 2, batch_norm=False).norm, nn.Identity)


def test_several_labels_are_accepted_and_images_without_are_left_out():
    predictions = torch.tensor([[0, 1, 2, 3], [1, 1, 0, 0]])
    targets = torch.tensor([[0, 1], [2, -1], [-1, -1], [3, -1]])
    right, labelled = count_accepted(predictions, targets)
    assert (right.tolist(), int(labelled)) == ([2, 1], 3)
    right, labelled = count_accepted(predictions, targets[:, 0])
    assert (right.tolist(), int(labelled)) == ([2, 0], 3)
    assert restrict(torch.tensor([[1, 2, 3]]), [2, 0]).tolist() == [[3, 1]]


def test_the_first_of_the_best_of_each_source():
    assert best_of_each(['a', 'a', 'b', 'a', 'b'], [0.1, 0.5, 0.0, 0.5, 0.2]) == {'a': 1, 'b': 4}
