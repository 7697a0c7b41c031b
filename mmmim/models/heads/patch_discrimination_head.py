"""Latent MIM's losses."""

from torch import Tensor

from mmmim.registry import MODELS
from mmmim.structures import Context, Prediction, Target
from mmmim.utils import InputError
from mmmim.utils.options import NonNegative, Number, Positive, check_choice

from ..functional import mean_similarity, patch_discrimination
from ..interfaces import Head


@MODELS.register_module()
class PatchDiscriminationHead(Head):
    """Telling the target patches of an image apart (Latent MIM, arXiv 2407.15837, equation 7).

    Args:
        temperature: Divides the cosine similarities in the softmax over patches.
        standardize: Whether predictions are standardised per image and channel, as in the released code; the paper has
            no such step.
        candidates: What a patch is told from: 'predicted', the other predicted patches of its image; 'all', all others
            (ConMIM, arXiv 2205.09616), of targets that have them, such as :class:`ProjectedLatents`.
        init_cfg: mmengine's initialisation config; None for none.
    """

    reads = 'extra'

    def __init__(
        self,
        temperature: Positive = 0.2,
        standardize: bool = True,
        candidates: str = 'predicted',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_choice('PatchDiscriminationHead.candidates', candidates, ('predicted', 'all'))
        self.temperature, self.standardize, self.candidates = temperature, standardize, candidates

    def loss(self, prediction: Prediction, target: Target, context: Context) -> dict[str, Tensor]:
        """Compare.

        Args:
            prediction: ``patches [G, T*M, D]``.
            target: ``patches [G, T*M, D]`` and, for all candidates, ``others [G, V, D]``.
            context: Output of the encoder, whose ``grid`` says how many patches there are.

        Returns:
            ``dict(loss=scalar)``.

        Raises:
            InputError: All patches are wanted as candidates, and targets are not of all.
        """
        others = None
        if self.candidates == 'all':
            others, total = target.others, context.grid[0] * context.grid[1]
            if others is None or target.patches.shape[1] + others.shape[1] != total:
                raise InputError(
                    "PatchDiscriminationHead.candidates='all' needs targets of all patches: take ProjectedLatents, and "
                    'masks that predict what they do not leave visible.'
                )
        loss = patch_discrimination(
            prediction.patches, target.patches, self.temperature, self.standardize, others=others
        )
        return {'loss': loss}


@MODELS.register_module()
class SimilarityConstraint(Head):
    """Holds the mean cosine similarity between the patches of an image at a target (arXiv 2407.15837, equation 8).

    It constrains predictions and the encoder's output at visible patches. The similarity is averaged over the images
    of a (micro-)batch before the difference from the target is squared, as in the released code, so a step depends
    weakly on ``model.micro_batch_size``; with ``per_image`` it does not.

    Args:
        target: Similarity to hold. :class:`~mmmim.engine.hooks.ScheduledValueHook` moves it while a model trains.
        weight: Factor of both losses.
        per_image: Square the difference of every image, then average.
        init_cfg: mmengine's initialisation config; None for none.
    """

    def __init__(
        self, target: Number = 0.75, weight: NonNegative = 0.1, per_image: bool = False, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.target, self.weight, self.per_image = target, weight, per_image

    def _constrain(self, tokens: Tensor) -> Tensor:
        similarity = mean_similarity(tokens)
        if not self.per_image:
            similarity = similarity.mean(dim=0, keepdim=True)
        return self.weight * (similarity - self.target).square().mean()

    def loss(self, prediction: Prediction, target: Target, context: Context) -> dict[str, Tensor]:
        """Constrain.

        Args:
            prediction: ``patches [G, T*M, D]``.
            target: Not used; every head takes it.
            context: ``visible [G, V, D]``.

        Returns:
            ``dict(loss_similarity_predicted=scalar, loss_similarity_visible=scalar)``.
        """
        return {
            'loss_similarity_predicted': self._constrain(prediction.patches),
            'loss_similarity_visible': self._constrain(context.visible),
        }
