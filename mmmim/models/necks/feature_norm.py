"""Normalisation of features."""

from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.utils.options import Count


@MODELS.register_module()
class FeatureBatchNorm(BaseModule):
    """Batch normalisation of the maps of a frozen backbone, for linear classifiers, as a neck of mmsegmentation.

    A linear classifier then needs no learning rate of its own for every encoder, since its inputs have the same scale.

    Args:
        num_features: Number of channels of a map, D.
        num_levels: Maps that the backbone gives; each has a norm of its own.
        norm_cfg: Config of mmcv's ``build_norm_layer``; ``mmseg.SyncBN`` for several GPUs.
        init_cfg: mmengine's initialisation config; None for none.
    """

    def __init__(
        self,
        num_features: Count,
        num_levels: Count = 1,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        norm_cfg = norm_cfg or {'type': 'mmseg.BN'}
        self.norms = nn.ModuleList(build_norm_layer(norm_cfg, num_features)[1] for _ in range(num_levels))

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The maps ``[B, D, h, w]``, normalised over B, h and w."""
        return tuple(norm(x) for norm, x in zip(self.norms, maps, strict=True))


@MODELS.register_module()
class FeatureLayerNorm(BaseModule):
    """A LayerNorm of features ``[..., D]``, as a neck: in the place of the final norm of an encoder that is fine-tuned.

    Args:
        dim: Number of channels D.
        init_cfg: mmengine's initialisation config; None for none.
    """

    def __init__(self, dim: Count, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.norm = nn.LayerNorm(dim, eps=1e-6)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The features, each normalised."""
        return tuple(self.norm(feature) for feature in features)
