"""How many images a micro-batch has, where a training is to find out."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import is_model_wrapper
from torch import Tensor, nn

from mmmim.engine.ddp import bare_model, is_sharded
from mmmim.models import MaskedImageModeling
from mmmim.models.layers import blocks_of
from mmmim.utils import InputError
from mmmim.utils.internals import is_compiled

#: Where the message hub, and with it a checkpoint, holds what was chosen.
CHOSEN = 'micro_batch_size'
#: Images of the smallest micro-batch that is tried.
SMALLEST = 4
#: Share of the memory of a GPU that a step may fill.
FILLED = 0.9


def sizes(batch: int) -> list[int]:
    """Sizes that are tried: the whole batch, and its halves down to :data:`SMALLEST`.

    Args:
        batch: Images of the batch of a process.
    """
    found = [batch]
    while (half := (found[-1] + 1) // 2) >= SMALLEST and half < found[-1]:
        found.append(half)
    return found


def choose_micro_batch(runner: Any, data: dict[str, Any]) -> str:
    """Set ``model.micro_batch_size`` where it is 'auto', by passes over a batch that leave no trace.

    On a GPU it is the largest size that fits: one micro-batch and the optimiser's state fill at most :data:`FILLED` of
    the memory. On a CPU it is the fastest of one pass each. A training that is resumed keeps what was chosen. Several
    processes try the same sizes, those of the largest of their batches, and choose what is best for the slowest or
    fullest of them.

    Args:
        runner: Runner before the first step of its training.
        data: First batch of the loader.

    Returns:
        What was chosen and why, for the log.

    Raises:
        InputError: Parameters are sharded, so that a pass which does not fit would stop all processes; or not even the
            smallest size fits.
    """
    if is_sharded(runner):
        raise InputError(
            "model.micro_batch_size='auto' is for whole models, and this one is divided among processes: give a number."
        )
    model = bare_model(runner)
    known = runner.message_hub.get_info(CHOSEN) if runner.iter else None
    if isinstance(known, int) and known > 0:
        _set(model, known)
        return f'micro-batches of {known} images, as before'
    batch = model.data_preprocessor(dict(data), training=True)
    images = batch['inputs']
    # A pass has collective operations, so that all processes have to make as many.
    tries = sizes(int(_over_processes(len(images), 'max', images.device)))
    fits, words = (_largest, 'the largest that fits') if images.is_cuda else (_fastest, 'the fastest of')
    with _without_trace(model, runner.optim_wrapper):
        size, tried = fits(runner, model, batch, tries)
    _set(model, size)
    runner.message_hub.update_info(CHOSEN, size)
    return f'micro-batches of {size} images, {words}: {tried}'


def _set(model: MaskedImageModeling, size: int) -> None:
    model.micro_batch_to_choose = False
    model.set_micro_batch_size(size)


@contextmanager
def _without_trace(model: nn.Module, optim_wrapper: Any) -> Iterator[None]:
    """Buffers, gradients and random numbers are afterwards those of before."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        yield
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    optim_wrapper.zero_grad()


def _pass(runner: Any, model: MaskedImageModeling, batch: dict[str, Any], pieces: int | None) -> None:
    """Targets of a batch, and forward and backward of its first micro-batches; None for all."""
    images, mask, wrapper = batch['inputs'], batch['mask'], runner.optim_wrapper
    whole = runner.model
    quiet: AbstractContextManager = whole.no_sync() if is_model_wrapper(whole) else nullcontext()
    with wrapper.optim_context(model):
        mask = model.masks(images, mask)
        targets = model.targets(images, mask, batch.get('second'))
    for number, piece in enumerate(model.micro_batches(images, mask, targets), 1):
        with quiet, wrapper.optim_context(model):
            losses: dict[str, Tensor] = whole(piece.images, piece.mask, targets=piece.targets, mode='loss')
        wrapper.backward(torch.stack(list(losses.values())).sum() * piece.share)
        if number == pieces:
            break
    wrapper.zero_grad()


def _over_processes(value: float, op: str, device: torch.device) -> float:
    """The least or greatest of the values that processes have."""
    joined = torch.tensor(float(value), device=device)
    if get_world_size() > 1:
        all_reduce(joined, op=op)
    return float(joined)


def _fastest(runner: Any, model: MaskedImageModeling, batch: dict[str, Any], tries: list[int]) -> tuple[int, str]:
    device, seconds = batch['inputs'].device, dict[int, float]()
    for size in tries:
        _set(model, size)
        # The first pass of all warms up, and of compiled blocks the first of each size compiles.
        for _ in range(2 if not seconds or any(map(is_compiled, blocks_of(model))) else 1):
            start = time.perf_counter()
            _pass(runner, model, batch, None)
            took = time.perf_counter() - start
        seconds[size] = _over_processes(took, 'max', device)
    tried = ', '.join(f'{size} ({value:.2f} s)' for size, value in seconds.items())
    return min(seconds, key=lambda size: seconds[size]), tried


def _largest(runner: Any, model: MaskedImageModeling, batch: dict[str, Any], tries: list[int]) -> tuple[int, str]:
    device = batch['inputs'].device
    total = torch.cuda.mem_get_info(device)[1]
    optimizer = runner.optim_wrapper.optimizer
    # Gradients of all, and as much as two moments of each parameter before there are any.
    moments = 0 if optimizer.state else 2
    trained = sum(p.numel() * p.element_size() for group in optimizer.param_groups for p in group['params'])
    tried = []
    for size in tries:
        _set(model, size)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        others = total - torch.cuda.mem_get_info(device)[0] - torch.cuda.memory_reserved(device)
        share = math.inf
        try:
            _pass(runner, model, batch, 1)
            share = (torch.cuda.max_memory_reserved(device) + moments * trained) / (total - others)
        except torch.OutOfMemoryError:
            runner.optim_wrapper.zero_grad()
        share = _over_processes(share, 'max', device)
        tried.append(f'{size} ({share:.0%} of the memory)' if share < math.inf else f'{size} (does not fit)')
        if share <= FILLED:
            return size, ', '.join(tried)
    raise InputError(
        f"model.micro_batch_size='auto': no micro-batch fits ({', '.join(tried)}): set "
        "model.activation_checkpointing='full', or a smaller global_batch_size."
    )
