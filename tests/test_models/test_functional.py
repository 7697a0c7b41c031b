import pytest
import torch
import torch.nn.functional as F

from mmmim.models.functional import Balancing, assign_tokens, online_clustering, sinkhorn_knopp_, soft_cross_entropy
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


def test_soft_cross_entropy_is_fp32_under_autocast():
    logits, targets = torch.randn(4, 6), torch.rand(4, 6)
    expected = -(targets * F.log_softmax(logits / 0.12, dim=-1)).sum(-1).mean()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = soft_cross_entropy(logits, targets, 0.12)
    torch.testing.assert_close(loss, expected)


def test_one_image_cannot_be_balanced():
    with pytest.raises(InputError, match='at least 2 images'):
        OnlineClustering(4, 8).cluster(torch.randn(1, 9, 4), torch.zeros(1, 1).long(), torch.zeros(1, 1).long())
