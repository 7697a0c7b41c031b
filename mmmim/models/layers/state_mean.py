"""The mean of what several blocks of an encoder make of the patches (data2vec)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from mmmim.utils.options import check_choice

from .counting import layer_index

STATES = ('block', 'mlp')
NORMS = ('layer', 'instance', None)


def normalized_state(state: Tensor, kind: str | None) -> Tensor:
    """A state ``[G, V, D]`` in fp32, normalised without weights.

    Args:
        state: Tokens of the patches.
        kind: 'layer': over the channels of every token. 'instance': over the tokens of an image, channel by channel.
            None: as it is.
    """
    state = state.float()
    if kind == 'layer':
        return F.layer_norm(state, state.shape[-1:])
    if kind == 'instance':
        return F.instance_norm(state.transpose(1, 2)).transpose(1, 2)
    return state


@dataclass(frozen=True)
class StateMean:
    """Which states of an encoder are averaged, and how (data2vec, arXiv 2202.03555, section 3.3).

    States are added up as the blocks finish, so that no more than one and their sum are held.

    Attributes:
        layers: Blocks whose states are averaged, negative ones from the end.
        state: What of a block: 'block', its output; 'mlp', what its second residual branch adds to the tokens.
        normalize: How each is normalised before, see :func:`normalized_state`.

    Raises:
        InputError: Another state or norm.
    """

    layers: tuple[int, ...]
    state: str = 'block'
    normalize: str | None = None

    def __post_init__(self) -> None:
        check_choice('state', self.state, STATES)
        check_choice('normalize_layers', self.normalize, NORMS)

    @classmethod
    def of(cls, layers: Sequence[int], state: str, normalize: str | None) -> StateMean:
        """One of any sequence of blocks."""
        return cls(tuple(layers), state, normalize)

    def blocks(self, depth: int) -> list[int]:
        """The blocks, counted from 0, of an encoder of ``depth`` blocks.

        Raises:
            InputError: There is no such block.
        """
        return [layer_index(layer, depth) for layer in self.layers]

    def added(self, total: Tensor | None, state: Tensor) -> Tensor:
        """A sum with the part of one more state ``[G, V, D]``; None for the first."""
        part = normalized_state(state, self.normalize) / len(self.layers)
        return part if total is None else total + part
