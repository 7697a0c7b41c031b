"""A projection head with batch norm, for comparisons of patches (ConMIM)."""

import itertools

import torch
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, PatchMask, Prediction
from mmmim.structures.patch_mask import gather_patches
from mmmim.utils.options import Count

from ..interfaces import Neck, Sizes


@MODELS.register_module()
class BatchNormProjector(Neck):
    """Linear layers with batch norm on the encoder's output, for encoders that see mask tokens (ConMIM).

    Every linear layer is without bias and followed by a batch norm over all tokens of the batch, CLS included, and, but
    for the last one, whose norm has no weights, by a ReLU (arXiv 2205.09616). The norms keep no running statistics:
    those of what they see are used in evaluation too, as the teacher of the released code does, which is never put into
    its evaluation mode. They are statistics of a process and a micro-batch, so that a step depends on
    ``model.micro_batch_size`` and on the number of processes.

    Args:
        context_dim: Width D of the encoder.
        hidden_dim: Width between the layers.
        out_dim: Width of the predictions.
        depth: Number of linear layers.
        init_cfg: mmengine's initialisation config; None for none.
    """

    def __init__(
        self,
        context_dim: Count = 768,
        hidden_dim: Count = 4096,
        out_dim: Count = 256,
        depth: Count = 3,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.context_dim, self.out_dim = context_dim, out_dim
        widths = [context_dim, *[hidden_dim] * (depth - 1), out_dim]
        self.linears = nn.ModuleList(nn.Linear(one, other, bias=False) for one, other in itertools.pairwise(widths))
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(width, affine=number < depth, track_running_stats=False)
            for number, width in enumerate(widths[1:], start=1)
        )

    def sizes(self) -> Sizes:
        """Widths of the encoder and of the predictions."""
        return {
            'width': ('context_dim', self.context_dim),
            'prediction width': ('out_dim', self.out_dim),
        }

    def project(self, context: Context) -> Tensor:
        """All patches of a context, ``[G, N, out_dim]``."""
        tokens = torch.cat([context.extra, context.visible], dim=1)
        x = tokens.flatten(0, 1)
        for i, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            x = norm(linear(x.relu() if i else x))
        return x.unflatten(0, tokens.shape[:2])[:, context.extra.shape[1] :]

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Project, and pick the patches of ``mask.predict``: ``patches [G, T*M, out_dim]``."""
        return Prediction(patches=gather_patches(self.project(context), mask.flat_predict()))
