import pytest
import torch
import torch.nn.functional as F

from mmmim.models.functional import online_clustering, sinkhorn_knopp_, soft_cross_entropy
from mmmim.utils import InputError


def naive_sinkhorn(scores, iterations=3, eps=1e-8):
    """The definition, line by line: ``[P, B, K]``."""
    q = (scores - scores.amax(dim=1, keepdim=True) + 50).exp()
    for _ in range(iterations):
        q = q / (q.sum(dim=1, keepdim=True) + eps)
        q = q / (q.sum(dim=2, keepdim=True) + eps)
    return q


@pytest.mark.parametrize('shape', [(5, 8, 6), (1, 33, 20), (3, 2, 100)])
@pytest.mark.parametrize('iterations', [1, 3, 7])
def test_sinkhorn_knopp_is_its_definition(shape, iterations):
    torch.manual_seed(0)
    scores = torch.randn(shape) / 0.06
    expected = naive_sinkhorn(scores.double(), iterations)
    assignments = scores.clone()
    scaling = sinkhorn_knopp_(assignments, iterations)
    torch.testing.assert_close(assignments.double(), expected, rtol=2e-5, atol=1e-7)
    again = (scores - scaling.shift[:, None]).exp() * scaling.prototype[:, None] * scaling.token[:, :, None]
    torch.testing.assert_close(again, assignments, rtol=2e-5, atol=1e-8)


def test_sinkhorn_knopp_balances():
    torch.manual_seed(0)
    scores = torch.randn(2, 64, 8) / 0.06
    balanced = scores + torch.tensor([30.0] + [0.0] * 7)
    sinkhorn_knopp_(balanced, 100)
    torch.testing.assert_close(balanced.sum(dim=2), torch.ones(2, 64), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(balanced.sum(dim=1), torch.full((2, 8), 8.0), rtol=0.05, atol=0.05)


@pytest.mark.parametrize('chunk_tokens', [None, 1, 12, 20])
def test_clustering_loss_and_gradient_are_those_of_autograd(chunk_tokens):
    torch.manual_seed(0)
    tokens = torch.randn(7, 5, 12)
    weight, bias = torch.randn(9, 12, requires_grad=True), torch.randn(9, requires_grad=True)
    logits = F.linear(F.normalize(tokens, dim=-1, eps=1e-7), weight, bias)
    assignments = naive_sinkhorn(logits.detach() / 0.06)
    expected = -(assignments * F.log_softmax(logits / 0.12, dim=-1)).sum(-1).mean()
    expected_grads = torch.autograd.grad(3 * expected, (weight, bias))

    loss, scaling = online_clustering(tokens, weight, bias, chunk_tokens=chunk_tokens)
    torch.testing.assert_close(loss, expected)
    for grad, other in zip(torch.autograd.grad(3 * loss, (weight, bias)), expected_grads, strict=True):
        torch.testing.assert_close(grad, other, rtol=1e-4, atol=1e-6)
    assert not scaling.token.requires_grad
    assert scaling.token.shape == (7, 5)
    assert scaling.prototype.shape == scaling.shift.shape == (7, 9)


def test_soft_cross_entropy_is_fp32_under_autocast():
    logits, targets = torch.randn(4, 6), torch.rand(4, 6)
    expected = -(targets * F.log_softmax(logits / 0.12, dim=-1)).sum(-1).mean()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss = soft_cross_entropy(logits, targets, 0.12)
    torch.testing.assert_close(loss, expected)


def test_one_image_cannot_be_balanced():
    from mmmim.models import OnlineClustering

    with pytest.raises(InputError, match='at least 2 images'):
        OnlineClustering(4, 8).cluster(torch.randn(1, 9, 4))


@pytest.mark.parametrize('positional', [True, False])
def test_assignments_of_single_tokens_are_those_of_the_batch(positional):
    from mmmim.models import OnlineClustering

    torch.manual_seed(0)
    clustering, tokens = OnlineClustering(6, 10, positional=positional), torch.randn(4, 9, 6)
    _, shift, prototype, token = clustering.cluster(tokens)
    logits = F.linear(F.normalize(tokens, dim=-1), clustering.weight, clustering.bias).detach() / 0.06
    if positional:
        expected = naive_sinkhorn(logits.transpose(0, 1)).transpose(0, 1)
    else:
        expected = naive_sinkhorn(logits.transpose(0, 1).reshape(1, 36, 10)).view(9, 4, 10).transpose(0, 1)
    torch.testing.assert_close(clustering.assign(tokens, shift, prototype, token.T), expected, rtol=1e-4, atol=1e-6)
