"""What a training step costs, measured in the runner that trains."""

from __future__ import annotations

import functools
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from torch import nn

from mmmim.engine.ddp import bare_model
from mmmim.models import MaskedImageModeling
from mmmim.models.layers import blocks_of
from mmmim.utils.machine import cpu_name, peak_resident_memory

from .flop_counter import make_flop_counter
from .scaling import messages_of

#: Parts of an iteration; they add up to it.
PARTS = ('data', 'forward + backward', 'optimiser + EMA', 'hooks')


class Clock:
    """Points in time: of the host, or on a GPU of its stream, which nothing has to wait for."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == 'cuda'

    def now(self) -> Any:
        """A point in time."""
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, start: Any, end: Any) -> float:
        """Between two points; waits for the second."""
        if not self.cuda:
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1e3


def bare_step(model: nn.Module, batch: Any, optim_wrapper: Any) -> None:
    """A training step without runner and hooks: ``train_step``, and the move of the teacher where there is one.

    Args:
        model: The model, with or without a data-parallel wrapper.
        batch: Batch of the data loader.
        optim_wrapper: The wrapper of the optimiser that takes the step.
    """
    step: Callable[..., Any] = model.train_step
    step(batch, optim_wrapper)
    own = model.module if is_model_wrapper(model) else model
    if isinstance(own, MaskedImageModeling) and own.teacher is not None:
        own.teacher.update(own, 0.99, getattr(optim_wrapper, 'skipped', None))


class StepTimer:
    """Times the iterations of a runner from outside: loop, hooks and step run as they do in a training.

    Between the iterations of the runner it takes a bare step on the same batch (``train_step`` and the move of the
    teacher, no hook), so that the two are compared under the same conditions.

    Args:
        runner: Built, not yet trained.
        warmup: Iterations that are not measured.
    """

    def __init__(self, runner: Any, warmup: int) -> None:
        self.runner, self.warmup = runner, warmup
        self.spans: list[dict[str, list[tuple[Any, Any]]]] = []
        self.bare: list[tuple[Any, Any]] = []
        self.batch: Any = None
        self._end: Any = None

    def install(self) -> None:
        """Wrap what is timed."""
        runner = self.runner
        self.clock = Clock(next(runner.model.parameters()).device)
        self._span(runner.optim_wrapper, 'step', 'optimiser')
        self._span(runner.optim_wrapper, 'zero_grad', 'optimiser')
        self._span(runner.model, 'train_step', 'step')
        for hook in runner.hooks:
            if type(hook).__name__ == 'TargetEMAHook':
                self._span(hook, 'after_train_iter', 'ema')
        loop, run_iter = runner.train_loop, runner.train_loop.run_iter

        def timed(batch: Any) -> None:
            fetched = self.clock.now()
            if self.spans:
                self.spans[-1]['data'].append((self._end, fetched))
            if len(self.spans) >= self.warmup:
                self._bare_step(batch)
            self.batch = batch
            self.spans.append({key: [] for key in ('data', 'optimiser', 'step', 'ema', 'all')})
            start = self.clock.now()
            run_iter(batch)
            self._end = self.clock.now()
            self.spans[-1]['all'].append((start, self._end))

        loop.run_iter = timed

    def _span(self, owner: Any, name: str, kind: str) -> None:
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)  # with what mmengine's schedulers have noted in it
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = self.clock.now()
            try:
                return function(*args, **kwargs)
            finally:
                if self.spans:
                    self.spans[-1][kind].append((start, self.clock.now()))

        setattr(owner, name, timed)

    def _bare_step(self, batch: Any) -> None:
        spans, self.spans = self.spans, []  # which nobody adds to
        start = self.clock.now()
        bare_step(self.runner.model, batch, self.runner.optim_wrapper)
        self.bare.append((start, self.clock.now()))
        self.spans = spans

    def rows(self) -> list[dict[str, float]]:
        """Seconds of each iteration: of each of :data:`PARTS`, and of the whole."""
        rows = []
        for spans in self.spans[self.warmup : -1]:  # the last is followed by no data
            sums = {key: sum(self.clock.seconds(*pair) for pair in pairs) for key, pairs in spans.items()}
            rows.append(
                {
                    'data': sums['data'],
                    'forward + backward': sums['step'] - sums['optimiser'],
                    'optimiser + EMA': sums['optimiser'] + sums['ema'],
                    'hooks': sums['all'] - sums['step'] - sums['ema'],
                    'iteration': sums['data'] + sums['all'],
                }
            )
        return rows


def peak_memory(device: torch.device) -> int | None:
    """Bytes: allocated on a GPU; of a CPU, the largest resident size of the process, None where it is not known."""
    return torch.cuda.max_memory_allocated(device) if device.type == 'cuda' else peak_resident_memory()


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 1.0) -> float:
    """FLOP/s of products of large matrices, the best of several."""
    size = 8192 if device.type == 'cuda' else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    clock, best, begin = Clock(device), float('inf'), time.perf_counter()
    torch.mm(a, b)
    while time.perf_counter() - begin < seconds or best == float('inf'):
        start = clock.now()
        torch.mm(a, b)
        best = min(best, clock.seconds(start, clock.now()))
    return 2 * size**3 / best


def step_flops(model: nn.Module, batch: Any, optim_wrapper: Any) -> int:
    """FLOPs of the matrix products, convolutions and attention of a step, without those of recomputation.

    Uncompiled, and counted one by one as the step runs.
    """
    blocks = blocks_of(model)
    modes = [block.checkpointing for block in blocks]
    for block in blocks:
        block.checkpointing = None
    try:
        with torch.compiler.set_stance('force_eager'), make_flop_counter() as counter:
            model.train_step(batch, optim_wrapper)
    finally:
        for block, mode in zip(blocks, modes, strict=True):
            block.checkpointing = mode
    return counter.get_total_flops()


def largest_items(model: nn.Module, batch: Any, optim_wrapper: Any, number: int) -> list[tuple[str, float]]:
    """What a step spends its time on: the operations of most time of their own, and their share of the step.

    On a GPU its kernels, and their share of the time that it computes.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    on_gpu = next(model.parameters()).is_cuda
    if on_gpu:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        model.train_step(batch, optim_wrapper)
    events = profiler.key_averages()
    times = {event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in events}
    total = sum(times.values())
    return [(name, times[name] / total) for name in sorted(times, key=lambda name: -times[name])[:number]]


def measure(runner: Any, warmup: int, libraries: int | None = 0, profile: int = 0) -> dict[str, Any]:
    """Train with a runner, to its ``max_iters``, and measure.

    Args:
        runner: A runner whose training loop has more than ``warmup + 1`` iterations.
        warmup: Iterations that are not measured.
        libraries: What the process held before the runner was built, in bytes.
        profile: How many of the largest items of a step to name.

    Returns:
        Medians of ``seconds`` by part, of which ``rows`` has those of every iteration; ``images_per_s``; ``flops`` of
        a step; ``peak_flops`` per second of matrix products; ``utilisation``, the step's FLOP/s over these; ``memory``
        and ``libraries`` in bytes, None where they are not known; ``gradients`` and ``waiting``, bytes of what a rank
        sends (see :class:`~mmmim.cost.scaling.Messages`); ``micro_batches`` of a step; ``dtype``, ``steps``,
        ``images`` and ``device``; ``largest``, see :func:`largest_items`.
    """
    timer = StepTimer(runner, warmup)
    call_hook = runner.call_hook

    def before_training(name: str, **kwargs: Any) -> None:
        call_hook(name, **kwargs)
        if name == 'before_train':  # the model is wrapped, the optimiser built
            timer.install()

    runner.call_hook = before_training
    dtype = getattr(torch, runner.cfg.optim_wrapper.get('dtype') or 'float32')
    device = next(runner.model.parameters()).device
    peaks = [matmul_peak(device, dtype)]
    runner.train()
    memory = peak_memory(device)
    peaks.append(matmul_peak(device, dtype))
    rows = timer.rows()
    seconds = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    seconds['bare step'] = statistics.median(timer.clock.seconds(*pair) for pair in timer.bare)
    flops = step_flops(runner.model, timer.batch, runner.optim_wrapper)
    batch, model = len(timer.batch['inputs']), bare_model(runner)
    mask = timer.batch.get('mask')
    messages = messages_of(model, math.prod(mask.grid) if mask is not None else 1)
    micro_batch = getattr(model, 'micro_batch_size', None) or batch
    largest = largest_items(runner.model, timer.batch, runner.optim_wrapper, profile) if profile else []
    return {
        'seconds': seconds,
        'rows': rows,
        'images': batch,
        'images_per_s': batch / seconds['iteration'],
        'flops': flops,
        'peak_flops': max(peaks),
        'utilisation': flops / seconds['iteration'] / max(peaks),
        'memory': memory,
        'libraries': libraries,
        'largest': largest,
        'gradients': messages.gradients,
        'waiting': messages.waiting,
        'micro_batches': -(-batch // micro_batch),
        'dtype': str(dtype).removeprefix('torch.'),
        'steps': len(rows),
        'device': torch.cuda.get_device_name(device) if device.type == 'cuda' else f'CPU ({cpu_name()})',
    }
