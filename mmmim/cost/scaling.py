"""What a step would take on more GPUs, on paper: from its seconds on one, the bytes it sends and the speed of links.

Nothing here is measured on several GPUs. Data parallelism with the same images on each: every GPU computes what the one
computed, and what is sent comes on top, as far as nothing hides it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

#: Bytes of gradients that are sent together, as in ``torch.nn.parallel.DistributedDataParallel``.
BUCKET = 25 * 2**20


@dataclass(frozen=True)
class Links:
    """Bytes per second that a GPU sends to its neighbour, and seconds of a message without content.

    The defaults are what makers state of NVLink 4 and of 400 Gbit/s per GPU between machines.

    Attributes:
        inside: Bytes per second between two GPUs of a machine.
        between: Bytes per second between GPUs of two machines.
        latency: Seconds that a message without content takes, per hop.
        gpus: Number of GPUs of a machine.
    """

    inside: float = 450e9
    between: float = 50e9
    latency: float = 5e-6
    gpus: int = 8

    def all_reduce(self, size: float, ranks: int) -> float:
        """Seconds of an all-reduce of ``size`` bytes as a ring: each rank sends all of it nearly twice."""
        if ranks == 1:
            return 0.0
        speed = self.inside if ranks <= self.gpus else self.between
        return 2 * (ranks - 1) / ranks * size / speed + 2 * math.ceil(math.log2(ranks)) * self.latency


@dataclass(frozen=True)
class Messages:
    """What a rank sends in a step.

    Attributes:
        gradients: Bytes of all gradients, in fp32; they are sent while the last backward pass runs.
        waiting: Bytes of each message that the step waits for, in order.
    """

    gradients: int
    waiting: tuple[int, ...] = ()


def messages_of(model: nn.Module, num_patches: int) -> Messages:
    """Messages of a step of data parallelism.

    Gradients are those of the parameters that are trained. The step waits for Sinkhorn-Knopp's: a maximum, and a sum in
    each iteration, over the tokens of each position (or of all) for each prototype, in chunks of positions.

    Args:
        model: A :class:`~mmmim.models.MaskedImageModeling`, also on the meta device.
        num_patches: Patches N of a training image.
    """
    waiting: list[int] = []
    for module in model.modules():
        if (balancing := getattr(module, 'balancing', None)) is not None:
            for part in balancing.chunks(num_patches):
                groups = part.stop - part.start if balancing.positional else 1
                waiting += [4 * groups * module.num_prototypes] * (1 + balancing.iterations)
    return Messages(sum(4 * p.numel() for p in model.parameters() if p.requires_grad), tuple(waiting))


def step_seconds(compute: float, backward: float, messages: Messages, ranks: int, links: Links) -> float:
    """Seconds of a step on ``ranks`` GPUs.

    Args:
        compute: Seconds of the step on one.
        backward: Seconds of its last backward pass, which hides all gradients but those of the last bucket.
        messages: What is sent.
        ranks: Number of GPUs.
        links: Speed of the links between them.
    """
    gradients = links.all_reduce(messages.gradients, ranks)
    last = links.all_reduce(min(BUCKET, messages.gradients), ranks)
    return compute + max(gradients - backward, last) + sum(links.all_reduce(size, ranks) for size in messages.waiting)


def on_paper(result: dict[str, Any], micro_batches: int, ranks: tuple[int, ...] = (2, 8, 32)) -> list[dict[str, float]]:
    """Steps on several GPUs, of a measured one.

    Args:
        result: What :func:`mmmim.cost.step.measure` returns; ``gradients`` and ``waiting`` in it are the fields of a
            :class:`Messages`.
        micro_batches: Micro-batches of a step. The backward pass of the last is two thirds of a part of the step.
        ranks: Numbers of GPUs.

    Returns:
        Of each number: ``ranks``, ``seconds``, and ``efficiency``, images per second and GPU over those on one.
    """
    compute = result['seconds']['iteration']
    backward = result['seconds']['forward + backward'] * 2 / 3 / micro_batches
    messages, links = Messages(result['gradients'], tuple(result['waiting'])), Links()
    times = [step_seconds(compute, backward, messages, number, links) for number in ranks]
    return [
        {'ranks': number, 'seconds': seconds, 'efficiency': compute / seconds}
        for number, seconds in zip(ranks, times, strict=True)
    ]
