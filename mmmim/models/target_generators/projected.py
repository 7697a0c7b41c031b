"""Targets that the teacher's projection head makes."""

import torch
from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import PatchMask, Target
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils import InputError
from mmmim.utils.options import Count

from ..interfaces import Encoder, Sizes, TargetGenerator
from ..necks.projector import BatchNormProjector
from ..teacher import TeacherView


@MODELS.register_module()
class ProjectedLatents(TargetGenerator):
    """What the EMA of the student's own projector makes of the whole image (ConMIM, arXiv 2205.09616).

    Beside the targets of the predicted patches it gives those of the visible ones, for heads that tell a patch from all
    others of its image. If the pipeline makes a second picture (:class:`mmmim.datasets.SecondView`), it is what the
    teacher sees.

    Args:
        projector: Name of the projector among the parts of ``model.teacher``, e.g. ``'branches.patches.neck'``.
        out_dim: Width of the targets.
        init_cfg: mmengine's initialisation config; None for none.
    """

    def __init__(self, projector: str, out_dim: Count = 256, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.projector, self.out_dim = projector, out_dim

    def sizes(self) -> Sizes:
        """Width of the targets."""
        return {'prediction width': ('out_dim', self.out_dim)}

    def describe_batch(self, images: int) -> str:
        """What batch norm sees, for the log."""
        return "batch norm sees the student's patches of a micro-batch, and the teacher's of the batch of a process"

    @torch.no_grad()
    def forward(self, images: Tensor, mask: PatchMask, teacher: TeacherView | None, backbone: Encoder) -> Target:
        """Targets of the predicted and of the visible patches.

        Args:
            images: ``[B, C, H, W]``.
            mask: What is predicted.
            teacher: Sees the whole images; it has the projector.
            backbone: Not used; every target generator takes it.

        Returns:
            ``patches [G, T*M, out_dim]`` and ``others [G, V, out_dim]``.

        Raises:
            InputError: There is no teacher, or it has no such projector.
        """
        if teacher is None:
            raise InputError("ProjectedLatents needs a teacher: set model.teacher=['backbone', ...].")
        try:
            projector = teacher.part(self.projector)
        except AttributeError:
            projector = None
        if not isinstance(projector, BatchNormProjector):
            raise InputError(
                f'ProjectedLatents: the teacher has no BatchNormProjector {self.projector!r}: add it to model.teacher.'
            )
        patches, rows = projector.project(teacher.encode()), mask.image_index
        return Target(
            patches=gather_patches(patches, mask.flat_predict(), rows),
            others=gather_patches(patches, mask.visible, rows),
        )
