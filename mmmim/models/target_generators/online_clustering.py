"""CAPI's targets: soft assignments of teacher tokens to online clusters."""

import torch
from mmengine.dist import get_world_size
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import PatchMask, Target
from mmmim.utils import InputError
from mmmim.utils.options import Count, Positive

from ..functional import Balancing, online_clustering
from ..interfaces import Encoder, Sizes, TargetGenerator
from ..teacher import TeacherView


def describe_balancing(balancing: Balancing, num_prototypes: int, images: int) -> str:
    """What Sinkhorn-Knopp balances over, for the log; ``images`` is the batch over all ranks."""
    over = 'at each position on its own' if balancing.positional else 'with all positions together'
    return f'Sinkhorn-Knopp balances {num_prototypes} prototypes over {images} images, {over}'


def check_balanced(images: int) -> None:
    """Refuse a batch that has nothing to balance.

    Args:
        images: Number of images of this rank.

    Raises:
        InputError: A single image over all ranks.
    """
    if images * get_world_size() < 2:
        raise InputError(
            'Sinkhorn-Knopp balances prototypes over the images of a batch and got 1 image: every prototype would '
            'get the same share. Use batches of at least 2 images: in training by global_batch_size or '
            'train_dataloader.batch_size (the paper has as many images as prototypes), in validation and test by '
            'a batch_size that leaves no single image at the end.'
        )


@MODELS.register_module()
class OnlineClustering(TargetGenerator):
    """Prototypes learned online, balanced by positional Sinkhorn-Knopp (CAPI, arXiv 2502.08769).

    The teacher sees the whole image. Its patch tokens are L2-normalised and mapped to K logits; Sinkhorn-Knopp turns
    them into soft assignments, which are the targets at the predicted positions. The layer is trained by its own
    loss, the cross-entropy between all assignments and its own softmax.

    Args:
        in_dim: Width D of the teacher's tokens.
        num_prototypes: Number of prototypes, K.
        positional: Whether each position is balanced on its own over the batch (CAPI's default) or all tokens
            together.
        target_temperature: Divides the logits that assignments are made from.
        temperature: Divides the logits that are trained by the clustering loss.
        iterations: Iterations of Sinkhorn-Knopp.
        eps: Added to every sum of Sinkhorn-Knopp.
        chunk_positions: Positions processed at a time, which bounds the memory: two tensors of
            ``chunk_positions x B x K`` are alive at once. Without ``positional`` all tokens depend on each other and
            are processed together. None: all.
        init_cfg: mmengine's initialisation config; None for none.
    """

    distribution = True
    balances = True

    def __init__(
        self,
        in_dim: Count,
        num_prototypes: Count,
        positional: bool = True,
        target_temperature: Positive = 0.06,
        temperature: Positive = 0.12,
        iterations: Count = 3,
        eps: Positive = 1e-8,
        chunk_positions: Count | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_dim, self.num_prototypes = in_dim, num_prototypes
        self.balancing = Balancing(positional, target_temperature, iterations, eps, chunk_positions)
        self.temperature = temperature
        self.weight = nn.Parameter(torch.empty(num_prototypes, in_dim))
        self.bias = nn.Parameter(torch.zeros(num_prototypes))
        nn.init.normal_(self.weight)

    def sizes(self) -> Sizes:
        """Width of the teacher's tokens, and K."""
        return {
            'width': ('in_dim', self.in_dim),
            'prototypes': ('num_prototypes', self.num_prototypes),
        }

    def describe_batch(self, images: int) -> str:
        """What Sinkhorn-Knopp balances over, for the log; ``images`` is the batch over all ranks."""
        return describe_balancing(self.balancing, self.num_prototypes, images)

    def cluster(self, tokens: Tensor, where: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """Cluster teacher tokens.

        Args:
            tokens: ``[B, N, D]``.
            where: Patches whose assignments are wanted, ``[G, M]``.
            image: Images of these patches, broadcast to ``[G, M]``.

        Returns:
            Clustering loss (scalar) and assignments ``[G, M, K]``.

        Raises:
            InputError: A single image over all ranks: there is nothing to balance.
        """
        check_balanced(len(tokens))
        return online_clustering(tokens, self.weight, self.bias, where, image, self.balancing, self.temperature)

    def forward(self, images: Tensor, mask: PatchMask, teacher: TeacherView | None, backbone: Encoder) -> Target:
        """Targets of the predicted patches.

        Args:
            images: ``[B, C, H, W]``.
            mask: What is predicted.
            teacher: Sees the whole images.
            backbone: Not used; every target generator takes it.

        Returns:
            ``patches [G, T*M, K]`` and ``losses = dict(loss_clustering=scalar)``.
        """
        if teacher is None:
            raise InputError("OnlineClustering needs a teacher: set model.teacher=['backbone', ...].")
        tokens = teacher.encode().visible
        loss, targets = self.cluster(tokens, mask.flat_predict(), mask.image_index.unsqueeze(1))
        return Target(patches=targets, losses={'loss_clustering': loss})
