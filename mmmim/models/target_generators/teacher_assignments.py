"""Targets that are what the teacher's own head says."""

import torch
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import PatchMask, Target
from mmmim.utils import InputError
from mmmim.utils.options import Count, Positive

from ..functional import Balancing, assign_tokens
from ..interfaces import Encoder, Sizes, TargetGenerator
from ..teacher import TeacherView
from .online_clustering import check_balanced, describe_balancing


@MODELS.register_module()
class TeacherAssignments(TargetGenerator):
    """What the EMA of the student's own head says of the teacher's tokens, balanced by Sinkhorn-Knopp.

    These are the targets of iBOT (arXiv 2111.07832) with Sinkhorn-Knopp in the place of centring, which CAPI compares
    itself with (arXiv 2502.08769, table 1c): nothing but the student's loss trains the prototypes.

    Args:
        head: Name of the head among the parts of ``model.teacher``, e.g. ``'branches.ibot.head'``.
        num_prototypes: Number of prototypes, K.
        positional: Whether each position is balanced on its own over the batch or all tokens together.
        target_temperature: Divides the logits that assignments are made from.
        iterations: Iterations of Sinkhorn-Knopp.
        eps: Added to every sum of Sinkhorn-Knopp.
        chunk_positions: Positions processed at a time; None: all. See :class:`OnlineClustering`.
        init_cfg: mmengine's initialisation config; None for none.
    """

    distribution = True
    balances = True

    def __init__(
        self,
        head: str,
        num_prototypes: Count,
        positional: bool = True,
        target_temperature: Positive = 0.06,
        iterations: Count = 3,
        eps: Positive = 1e-8,
        chunk_positions: Count | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.head, self.num_prototypes = head, num_prototypes
        self.balancing = Balancing(positional, target_temperature, iterations, eps, chunk_positions)

    def sizes(self) -> Sizes:
        """Number of prototypes, K."""
        return {
            'prototypes': ('num_prototypes', self.num_prototypes),
        }

    def describe_batch(self, images: int) -> str:
        """What Sinkhorn-Knopp balances over, for the log; ``images`` is the batch over all ranks."""
        return describe_balancing(self.balancing, self.num_prototypes, images)

    @torch.no_grad()
    def forward(self, images: Tensor, mask: PatchMask, teacher: TeacherView | None, backbone: Encoder) -> Target:
        """Targets of the predicted patches.

        Args:
            images: ``[B, C, H, W]``.
            mask: What is predicted.
            teacher: Sees the whole images; it has the head.
            backbone: Not used; every target generator takes it.

        Returns:
            ``patches [G, T*M, K]``.

        Raises:
            InputError: There is no teacher or it has no such head, or a single image over all ranks.
        """
        if teacher is None:
            raise InputError("TeacherAssignments needs a teacher: set model.teacher=['backbone', ...].")
        tokens = teacher.encode().visible
        check_balanced(len(tokens))
        try:
            head = teacher.part(self.head)
        except AttributeError:
            raise InputError(
                f'TeacherAssignments: the teacher has no part {self.head!r}: add it to model.teacher.'
            ) from None
        image = mask.image_index.unsqueeze(1)
        return Target(patches=assign_tokens(tokens, head, mask.flat_predict(), image, self.balancing))
