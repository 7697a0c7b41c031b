"""Heads on frozen features as a classifier that is trained by steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from mmmim.features.names import FeatureName
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.options import Count, Positive

from .sweep import ProbeSweep as ProbeSweep
from .trained import ProbeHead, losses_of_heads


@MODELS.register_module()
class LinearProbes(nn.Module):
    """A linear head for each of several features, all of one recipe; the heads never see each other.

    Args:
        shapes: Shapes ``(D,)`` of the features by source.
        num_classes: Number of classes C.
        batch_norm: Whether features are normalised by a batch norm without weights, each for its own head.
        std: Deviation of the initial weights, normal and cut at 2.
        bias: Initial biases: ``'zero'``, or ``'uniform'`` within ``1 / sqrt(D)``.

    Raises:
        InputError: A feature has a vector for every token.
    """

    def __init__(
        self,
        shapes: Mapping[str, Sequence[int]],
        num_classes: Count,
        batch_norm: bool = True,
        std: Positive = 0.01,
        bias: Literal['zero', 'uniform'] = 'zero',
    ) -> None:
        super().__init__()
        if of_tokens := [source for source, shape in shapes.items() if len(shape) > 1]:
            raise InputError(
                f'mmmim.LinearProbes reads one vector of an image, and the feature {of_tokens[0]!r} has one for every '
                "token: model.head.type='mmmim.ProbeSweep' attends to those."
            )
        self.num_classes = num_classes
        self.probes = nn.ModuleDict(
            {source: ProbeHead(shape[0], num_classes, batch_norm, std, bias) for source, shape in shapes.items()}
        )

    @property
    def sources(self) -> list[str]:
        """The source of every head, ``[K]``, in the order of the logits."""
        return list(self.probes)

    @property
    def settings(self) -> list[dict[str, Any]]:
        """What tells heads of a source apart, ``[K]``: nothing."""
        return [{} for _ in self.probes]

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Logits ``[B, K, C]`` of the features ``[B, D]`` by source."""
        return torch.stack([probe(features[source]) for source, probe in self.probes.items()], dim=1)


@MODELS.register_module()
class ProbeClassifier(BaseModel):
    """K heads on frozen features of one encoder: the images pass through it once in a step, whatever K is.

    Heads are trained in fp32 whatever the precision of the encoder is (``--amp``). Predictions are scores ``[K, C]`` of
    every image, which :class:`mmmim.HeadAccuracy` counts.

    Args:
        backbone: Config of a :class:`mmmim.PretrainedBackbone`, without ``out_type``. It never gets gradients; with
            ``frozen=False`` it is in training mode in training, that is, with stochastic depth.
        features: Names of features by source, what the heads of it are called: see
            :meth:`mmmim.features.LayerFeatures.pool`. A source that is None is left out. Of several ``out_indices``
            each gives sources of its own, ``SOURCE@BLOCK``.
        head: Config of :class:`LinearProbes` or :class:`mmmim.ProbeSweep`, without ``shapes``.
        reduction: How the losses of heads become one: see :func:`mmmim.evaluation.probes.trained.train_probe`.
        encoder_batch: Most images that the encoder sees at a time, so that large batches fit; the features are the
            same. None: all of a batch.
        data_preprocessor: Config, e.g. of ``mmpretrain.ClsDataPreprocessor``.

    Raises:
        InputError: There is no such feature, the encoder does not have it, its width depends on the size of images, or
            options of the backbone contradict it.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        features: Mapping[str, str | None],
        head: dict[str, Any],
        reduction: Literal['mean', 'sum'] = 'sum',
        encoder_batch: Count | None = 256,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor)
        names = {source: name for source, name in features.items() if name is not None}
        if not names:
            raise InputError('model.features names no feature: give one, such as dict(pooled="pooled").')
        kinds = {source: FeatureName.of(name).kind for source, name in names.items()}
        if maps := [source for source, kind in kinds.items() if kind == 'featmap']:
            raise InputError(f"model.features.{maps[0]}={names[maps[0]]!r}: heads read the cells of maps as 'patches'.")
        if backbone.get('out_type') is not None:
            raise InputError('model.backbone.out_type: the features that heads read are set by model.features.')
        self.backbone = MODELS.build({**backbone, 'out_type': list(names.values())}).requires_grad_(False)
        blocks = self.backbone.out_indices
        shapes: dict[str, tuple[int, ...]] = {}
        for source, width in zip(names, self.backbone.feature_dims, strict=True):
            if width is None:
                raise InputError(
                    f'model.features.{source}={names[source]!r}: its width depends on the size of images; heads need '
                    'one that is known, such as pooled.'
                )
            for block in blocks:
                shape = (width,) if kinds[source] == 'vector' else (-1, width)
                shapes[source if len(blocks) == 1 else f'{source}@{block}'] = shape
        self._sources = list(shapes)
        self.head = MODELS.build({**head, 'shapes': shapes})
        self.heads = list(zip(self.head.sources, self.head.settings, strict=True))
        self.reduction, self.encoder_batch = reduction, encoder_batch

    def extract(self, inputs: Tensor) -> dict[str, Tensor]:
        """Features of normalised images by source, without gradients."""
        parts = inputs.split(self.encoder_batch or len(inputs))
        with torch.no_grad():
            found = [self.backbone(part) for part in parts]
        whole = found[0] if len(found) == 1 else [torch.cat(each) for each in zip(*found, strict=True)]
        return dict(zip(self._sources, whole, strict=True))

    def forward(self, inputs: Tensor, data_samples: Sequence[Any] | None = None, mode: str = 'tensor') -> Any:
        """Logits ``[B, K, C]`` of normalised images, losses, or predictions.

        Args:
            inputs: ``[B, 3, H, W]``.
            data_samples: A data sample of every image, with its ``gt_label``.
            mode: 'tensor': the logits. 'loss': their loss, and the mean of every source where there are several.
                'predict': the data samples, each with ``head_scores`` ``[K, C]`` and ``heads``, source and settings of
                each; with a single head also ``pred_score`` and ``pred_label``, as mmpretrain's have.

        Raises:
            InputError: An image to learn from has no label, or several.
        """
        features = self.extract(inputs)
        with torch.autocast(inputs.device.type, enabled=False):
            logits = self.head({source: feature.float() for source, feature in features.items()})
        if mode == 'tensor':
            return logits
        samples = list(data_samples or ())
        if mode == 'predict':
            return self._predictions(logits, samples)
        labels = [sample.get('gt_label') for sample in samples]
        if any(label is None or label.numel() != 1 for label in labels):
            raise InputError('An image to learn from has no label, or several: heads are trained on one of each image.')
        return self._losses(losses_of_heads(logits, torch.cat([label.view(1) for label in labels]).to(logits.device)))

    def _losses(self, losses: Tensor) -> dict[str, Tensor]:
        """What is minimised, and means of the losses ``[K]`` of the heads of every source, for the log."""
        found = {'loss': losses.mean() if self.reduction == 'mean' else losses.sum()}
        if len(self._sources) > 1:
            means = losses.detach().unflatten(0, (len(self._sources), -1)).mean(dim=1)
            found |= {f'cross_entropy/{source}': mean for source, mean in zip(self._sources, means, strict=True)}
        return found

    def _predictions(self, logits: Tensor, samples: list[Any]) -> list[Any]:
        for sample, scores in zip(samples, logits, strict=True):
            sample.head_scores, sample.heads = scores, self.heads
            if len(scores) == 1:
                sample.set_pred_score(scores[0].softmax(dim=0)).set_pred_label(scores[0].argmax())
        return samples
