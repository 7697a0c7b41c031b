"""Context, prediction and target: what encoder, necks, heads and target generators exchange."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mmmim.utils import InputError

from .patch_mask import PatchMask, gather_patches

#: What is read of the encoder's last block, from the least: its extra tokens, the predicted patches too, or all.
READS = ('extra', 'predicted', 'all')


def _joined(pieces: Sequence[Tensor | None]) -> Tensor | None:
    """Consecutive pieces of a batch; None where they have nothing."""
    found = [piece for piece in pieces if piece is not None]
    return torch.cat(found) if found else None


@dataclass
class Context:
    """What an encoder returns.

    Legend: G masks, V visible, E extra tokens, N patches, D width.

    Attributes:
        visible: Final-normed tokens of the visible patches, ``[G, V, D]`` (all N patches when there is no mask).
            Where ``reads`` is not 'all' the encoder was told that only some are read, and has only these.
        extra: CLS, proxies or registers, final-normed, ``[G, E, D]`` (E may be 0).
        grid: ``(h, w)`` of the image.
        positions: The encoder's position code of patches, from indices ``[G, M]`` to ``[G, M, P]``: coordinates for
            rotary encoders (P = 2), vectors for additive ones (P = D).
        hidden: States before the final norm, one per layer that was asked for, each ``[G, E + V, D]``.
        num_cls_tokens: How many of the extra tokens, the first ones, stand for the whole image (CLS or proxies); the
            others are registers.
        reads: One of :data:`READS`, the tokens of the last block that there are: 'all'; 'predicted': in ``visible``
            those of the predicted patches ``[G, T*M, D]``; 'extra': none in ``visible``.
        embedded: Tokens as the first block gets them, with their positions, ``[G, E + V, D]``, where states were asked
            for; None of an encoder that does not tell.
        normed: The final norm of the encoder, for states; None of an encoder that does not tell.
        mean: Mean of states of the patches ``[G, V, D]``, where it was asked for.
        block_inputs: What blocks of the encoder get beside tokens, by name (``rotation``, ``bias``), for more blocks on
            the same tokens; None of an encoder that does not tell, and of joined contexts.
    """

    visible: Tensor
    extra: Tensor
    grid: tuple[int, int]
    positions: Callable[[Tensor], Tensor]
    hidden: tuple[Tensor, ...] = ()
    num_cls_tokens: int = 0
    reads: str = 'all'
    embedded: Tensor | None = None
    normed: Callable[[Tensor], Tensor] | None = None
    mean: Tensor | None = None
    block_inputs: Mapping[str, Any] | None = None

    @property
    def cls(self) -> Tensor:
        """The tokens that stand for the whole image, ``[G, C, D]``; C is 0 where none does."""
        return self.extra[:, : self.num_cls_tokens]

    def predicted(self, mask: PatchMask) -> Tensor:
        """Tokens of the predicted patches ``[G, T*M, D]``, of an encoder that sees mask tokens in their places.

        Raises:
            InputError: The encoder has left out patches.
        """
        if self.reads == 'all' and self.visible.shape[1] != mask.grid[0] * mask.grid[1]:
            raise InputError(
                'Predicted patches are tokens of an encoder with mask tokens only: set model.backbone.fused=True, or '
                'take another neck.'
            )
        return self.visible if self.reads == 'predicted' else gather_patches(self.visible, mask.flat_predict())

    def seen(self, mask: PatchMask) -> Tensor:
        """Tokens of the visible patches ``[G, V, D]``, of an encoder that leaves the others out.

        Raises:
            InputError: The encoder has all patches, mask tokens in the place of those that are not visible.
        """
        if self.visible.shape[1] != mask.visible.shape[1]:
            raise InputError(
                'A neck predicts from visible patches alone, and the encoder has mask tokens in the place of others: '
                'leave model.backbone.fused out, or take a method for such encoders (docs/en/students.md).'
            )
        return self.visible

    @classmethod
    def cat(cls, pieces: Sequence[Context]) -> Context:
        """Join the contexts of consecutive pieces of a batch."""
        return replace(
            pieces[0],
            visible=torch.cat([piece.visible for piece in pieces]),
            extra=torch.cat([piece.extra for piece in pieces]),
            hidden=tuple(torch.cat(states) for states in zip(*(piece.hidden for piece in pieces), strict=True)),
            embedded=_joined([piece.embedded for piece in pieces]),
            mean=_joined([piece.mean for piece in pieces]),
            block_inputs=None,
        )


@dataclass
class Prediction:
    """What a neck returns.

    Attributes:
        patches: Predictions of the predicted patches, ``[G, T*M, D]``.
        cls: Prediction of the global token, ``[G, D]``, where the method predicts it.
        early: Predictions of the predicted patches from an earlier block, ``[G, T*M, D]``, where the method has them
            (BEiT v2).
    """

    patches: Tensor
    cls: Tensor | None = None
    early: Tensor | None = None


@dataclass
class Target:
    """What a target generator returns.

    Attributes:
        patches: Targets of the predicted patches, ``[G, T*M, K or D]``, or tokens ``[G, T*M]``, int64.
        cls: Target of the global token, ``[G, D]``, or None.
        losses: The generator's own losses (CAPI's clustering loss), by name.
        others: What the targets are told apart from beside each other, ``[G, V, D]``: those of the visible patches
            (ConMIM), or None.
    """

    patches: Tensor
    cls: Tensor | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)
    others: Tensor | None = None
