import pytest
import torch
import torch.nn.functional as F

from mmmim.models.functional import (
    Balancing,
    assign_tokens,
    linear_soft_cross_entropy,
    online_clustering,
    sinkhorn_knopp_,
)
from mmmim.models.target_generators import OnlineClustering
from mmmim.utils import InputError


def naive_sinkhorn(scores, iterations=3, eps=1e-8):
    """The definition, line by line: ``[P, B, K]``."""
    q = (scores - scores.amax(dim=1, keepdim=True) + 50).exp()
    for _ in range(iterations):
        q = q / (q.sum(dim=1, keepdim=True) + eps)
        q = q / (q.sum(dim=2, keepdim=True) + eps)
    return q


@pytest.mark.parametrize(('shape', 'iterations'), [((5, 8, 6), 3), ((1, 33, 20), 1), ((3, 2, 100), 7)])
def test_sinkhorn_knopp_is_its_definition(shape, iterations):
    torch.manual_seed(0)
    scores = torch.randn(shape) / 0.06
    expected = naive_sinkhorn(scores.double(), iterations)
    assignments = scores.clone()
    assert sinkhorn_knopp_(assignments, iterations) is assignments
    torch.testing.assert_close(assignments.double(), expected, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize('positional', [True, False])
@pytest.mark.parametrize('chunk_positions', [None, 3])
def test_clustering_is_that_of_autograd(chunk_positions, positional):
    torch.manual_seed(0)
    tokens = torch.randn(5, 7, 12)
    weight, bias = torch.randn(9, 12, requires_grad=True), torch.randn(9, requires_grad=True)
    logits = F.linear(F.normalize(tokens, dim=-1, eps=1e-7), weight, bias)
    groups = logits.detach().transpose(0, 1) / 0.06
    assignments = naive_sinkhorn(groups if positional else groups.reshape(1, 35, 9)).reshape(7, 5, 9).transpose(0, 1)
    expected = -(assignments * F.log_softmax(logits / 0.12, dim=-1)).sum(-1).mean()
    expected_grads = torch.autograd.grad(3 * expected, (weight, bias))

    where, image = torch.randint(7, (10, 3)), torch.arange(5).repeat_interleave(2).unsqueeze(1)
    balancing = Balancing(positional=positional, chunk_positions=chunk_positions)
    loss, targets = online_clustering(tokens, weight, bias, where, image, balancing)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(targets, assignments[image, where], rtol=1e-4, atol=1e-6)
    assert not targets.requires_grad
    for grad, other in zip(torch.autograd.grad(3 * loss, (weight, bias)), expected_grads, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-4, atol=1e-6)

    def score(x):
        return F.linear(F.normalize(x, dim=-1, eps=1e-7), weight, bias)

    alone = assign_tokens(tokens, score, where, image, balancing)
    torch.testing.assert_close(alone, targets)
    assert not alone.requires_grad


@pytest.mark.parametrize('rows', [1, 3, 5, 1024])
def test_cross_entropy_of_linear_logits_is_its_definition_in_parts_of_any_size(rows):
    x, weight = torch.randn(2, 5, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    targets = torch.rand(2, 5, 6)
    expected = -(targets * F.log_softmax(F.linear(x, weight) / 0.12, dim=-1)).sum(-1).mean()
    loss = linear_soft_cross_entropy(x, weight, targets, 0.12, rows=rows)
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(3 * loss, (x, weight))
    for gradient, other in zip(gradients, torch.autograd.grad(3 * expected, (x, weight)), strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(linear_soft_cross_entropy(x, weight, targets, 0.12), expected)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_cross_entropy_under_autocast_rounds_products_only(dtype):
    x, weight = torch.randn(7, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    targets = torch.rand(7, 6)
    with torch.autocast('cpu', dtype=dtype):
        logits = F.linear(x, weight)
        loss = linear_soft_cross_entropy(x, weight, targets, 0.12)
    expected = -(targets * F.log_softmax(logits.float() / 0.12, dim=-1)).sum(-1).mean()
    torch.testing.assert_close(loss, expected)
    gradients = torch.autograd.grad(loss, (x, weight))
    for gradient, other in zip(gradients, torch.autograd.grad(expected, (x, weight)), strict=True):
        assert gradient.dtype == other.dtype == torch.float32
        torch.testing.assert_close(gradient, other, rtol=0.02, atol=0.02)


def test_one_image_cannot_be_balanced():
    with pytest.raises(InputError, match='at least 2 images'):
        OnlineClustering(4, 8).cluster(torch.randn(1, 9, 4), torch.zeros(1, 1).long(), torch.zeros(1, 1).long())
