"""Several losses on one prediction."""

from torch import Tensor, nn

from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target
from mmmim.utils import InputError

from ..interfaces import Head, Sizes, check_part, most_read


@MODELS.register_module()
class CombinedHead(Head):
    """Several heads on the same prediction and target; their losses are added.

    Args:
        heads: Configs of the heads, by name.
        init_cfg: mmengine's initialisation config; None for none.
    """

    def __init__(self, heads: dict[str, dict], init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.heads = nn.ModuleDict(
            {name: check_part(MODELS.build(cfg), Head, f'CombinedHead.heads.{name}') for name, cfg in heads.items()}
        )

    @property
    def reads(self) -> str:  # type: ignore[override]
        """What its heads read, together."""
        return most_read(head.reads for head in self.heads.values())

    def sizes(self) -> Sizes:
        """Those of the heads."""
        return {quantity: size for head in self.heads.values() for quantity, size in head.sizes().items()}

    def loss(self, prediction: Prediction, target: Target, context: Context) -> dict[str, Tensor]:
        """The losses of all heads.

        Args:
            prediction: Prediction of the neck, with what each of the heads needs.
            target: Targets, with what each of the heads needs.
            context: Output of the encoder, with what each of the heads needs.

        Returns:
            By name.

        Raises:
            InputError: Two heads have a loss of the same name.
        """
        losses: dict[str, Tensor] = {}
        for name, head in self.heads.items():
            for key, value in head.loss(prediction, target, context).items():
                if key in losses:
                    raise InputError(f'CombinedHead: {name!r} has a loss {key!r}, as another of its heads: keep one.')
                losses[key] = value
        return losses
