"""What steps on several GPUs are said to take."""

import pytest
import torch

from mmmim.config.read import load_config
from mmmim.cost.scaling import BUCKET, Links, Messages, messages_of, on_paper, step_seconds
from mmmim.models.functional import sinkhorn
from mmmim.registry import MODELS
from tests.paths import ROOT


@pytest.mark.parametrize('chunk', [None, 5])
@pytest.mark.parametrize('positional', [True, False])
def test_messages_that_are_waited_for_are_those_that_are_sent(positional, chunk, monkeypatch):
    model = load_config(ROOT / 'configs/capi/small.py').model
    model.branches.capi.target_generator.update(positional=positional, chunk_positions=chunk)
    model = MODELS.build(model)
    sent = []
    monkeypatch.setattr(sinkhorn, 'all_reduce', lambda value, op: sent.append(4 * value.numel()))
    generator = model.branches['capi'].target_generator
    generator.cluster(torch.randn(2, 64, generator.in_dim), torch.zeros(2, 1).long(), torch.arange(2)[:, None])
    messages = messages_of(model, 64)
    assert list(messages.waiting) == sent != []
    assert messages.gradients == sum(4 * p.numel() for p in model.parameters() if p.requires_grad)


def test_a_ring_sends_all_but_a_part_twice():
    links = Links(inside=100.0, between=10.0, latency=0.0, gpus=4)
    assert links.all_reduce(100.0, 1) == 0.0
    assert links.all_reduce(100.0, 4) == pytest.approx(1.5)
    assert links.all_reduce(100.0, 5) == pytest.approx(16.0)


def test_gradients_hide_behind_the_backward_pass_but_for_their_last_bucket():
    links = Links(inside=1e9, between=1e9, latency=0.0)
    bucket = links.all_reduce(BUCKET, 8)
    hidden = Messages(10 * BUCKET, waiting=(10**8,))
    assert step_seconds(2.0, 1.0, hidden, 8, links) == pytest.approx(2.0 + bucket + links.all_reduce(1e8, 8))
    assert step_seconds(2.0, 1.0, Messages(100 * BUCKET), 8, links) == pytest.approx(1.0 + 100 * bucket)


def test_smaller_steps_scale_worse():
    result = {'gradients': 4 * 10**9, 'waiting': [10**6] * 4, 'seconds': {'iteration': 1.0, 'forward + backward': 0.9}}
    few, many = (on_paper(result, micro_batches) for micro_batches in (1, 64))
    assert [row['ranks'] for row in few] == [2, 8, 32]
    assert few[0]['efficiency'] > few[2]['efficiency'] > many[2]['efficiency'] > 0
