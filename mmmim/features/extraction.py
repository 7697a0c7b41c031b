"""Features of encoders."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.models.algorithms import MaskedImageModeling
from mmmim.models.interfaces import Encoder, PoolingNeck
from mmmim.utils import InputError

#: Features of whole images by name, see :meth:`Features.pool`.
POOLINGS = ('predicted', 'cls', 'pooled', 'pooled_raw', 'pooled_probe', 'cls_probe', 'max', 'topK', 'all')


def check_pooling(name: str) -> None:
    """Refuse a name that :meth:`Features.pool` does not know.

    Raises:
        InputError: Naming those that it does.
    """
    if (name not in POOLINGS and not re.fullmatch(r'top[1-9]\d*', name)) or name == 'topK':
        raise InputError(f'There is no feature {name!r}: use one of {", ".join(POOLINGS)} (K a number, e.g. top10).')


@dataclass
class LayerFeatures:
    """Features of a batch from one layer.

    Legend: B images, N = h x w patches, E registers or CLS, D width of the encoder, Dp of the predictor.

    Attributes:
        patches: Patch tokens after the final norm, ``[B, N, D]``.
        extra: Extra tokens (CLS or proxies, then registers) after the final norm, ``[B, E, D]``.
        grid: Rows and columns of patches, ``(h, w)``.
        num_cls_tokens: How many of the extra tokens, the first ones, stand for the whole image.
        raw: Patch tokens before the final norm, ``[B, N, D]``; None where they are not known.
        raw_extra: Extra tokens before the final norm, ``[B, E, D]``; None where they are not known.
        predicted: Global feature by predictor pooling (CAPI, arXiv 2502.08769, table 5), ``[B, Dp]``, which is made
            from the encoder's output whatever the layer is; None for models without one.
    """

    patches: Tensor
    extra: Tensor
    grid: tuple[int, int]
    num_cls_tokens: int = 0
    raw: Tensor | None = None
    raw_extra: Tensor | None = None
    predicted: Tensor | None = None

    @property
    def pooled(self) -> Tensor:
        """Average of the patch tokens, ``[B, D]``."""
        return self.patches.mean(dim=1)

    @property
    def cls(self) -> Tensor | None:
        """The CLS token, the average where there are several, ``[B, D]``; None for models without."""
        return self.extra[:, : self.num_cls_tokens].mean(dim=1) if self.num_cls_tokens else None

    @property
    def _raw_cls(self) -> Tensor | None:
        """Tokens that stand for the whole image before the final norm; None where there are none."""
        return None if self.raw_extra is None or not self.num_cls_tokens else self.raw_extra[:, : self.num_cls_tokens]

    def pool(self, name: str) -> Tensor | None:
        """One feature for each image.

        Args:
            name: 'predicted', 'cls' and 'pooled': as the attributes. 'pooled_raw': average of the patch tokens before
                the final norm. 'pooled_probe' and 'cls_probe': average of the patch tokens, or of the CLS tokens or
                proxies, before the final norm, each then through a LayerNorm of its own without weights (SemanticMIM,
                arXiv 2406.10673; eps 1e-6), which is what its probes of inner blocks see. 'max':
                greatest value over the patches, channel by channel. 'top10' (or another number): average of the 10
                greatest (Latent MIM, arXiv 2407.15837, appendix A.2). 'all': all patch tokens concatenated.

        Returns:
            ``[B, D]`` (``[B, N * D]`` for 'all'), or None where the model has no such feature.

        Raises:
            InputError: There is no such name.
        """
        check_pooling(name)
        if name in ('predicted', 'cls', 'pooled'):
            return {'predicted': self.predicted, 'cls': self.cls, 'pooled': self.pooled}[name]
        if name == 'pooled_raw':
            return None if self.raw is None else self.raw.mean(dim=1)
        if name in ('pooled_probe', 'cls_probe'):
            tokens = self.raw if name == 'pooled_probe' else self._raw_cls
            return None if tokens is None else F.layer_norm(tokens.mean(dim=1), tokens.shape[-1:], eps=1e-6)
        if name == 'all':
            return self.patches.flatten(1)
        k = 1 if name == 'max' else min(int(name.removeprefix('top')), self.patches.shape[1])
        return self.patches.topk(k, dim=1).values.mean(dim=1)

    def map(self) -> Tensor:
        """``patches`` as a map ``[B, D, h, w]``."""
        return self.patches.transpose(1, 2).unflatten(2, self.grid)


class Features(Sequence[LayerFeatures]):
    """Features of a batch: one :class:`LayerFeatures` for each layer asked for, in that order.

    What has no layer in its name is of the last of them: ``features.pooled`` is ``features[-1].pooled``.

    Args:
        layers: One or more.
    """

    def __init__(self, layers: Sequence[LayerFeatures]) -> None:
        self.layers = tuple(layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: Any) -> Any:
        """The features of a layer, by its place among those asked for."""
        return self.layers[index]

    @property
    def patches(self) -> tuple[Tensor, ...]:
        """Of each layer ``[B, N, D]``."""
        return tuple(layer.patches for layer in self.layers)

    @property
    def extra(self) -> tuple[Tensor, ...]:
        """Of each layer ``[B, E, D]``."""
        return tuple(layer.extra for layer in self.layers)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches, ``(h, w)``."""
        return self.layers[-1].grid

    @property
    def pooled(self) -> Tensor:
        """Average of the patch tokens of the last layer asked for, ``[B, D]``."""
        return self.layers[-1].pooled

    @property
    def cls(self) -> Tensor | None:
        """CLS token of the last layer asked for, ``[B, D]``; None for models without."""
        return self.layers[-1].cls

    @property
    def predicted(self) -> Tensor | None:
        """Global feature by predictor pooling, ``[B, Dp]``; None for models without."""
        return self.layers[-1].predicted

    def pool(self, name: str) -> Tensor | None:
        """:meth:`LayerFeatures.pool` of the last layer asked for."""
        return self.layers[-1].pool(name)

    def maps(self) -> tuple[Tensor, ...]:
        """Of each layer ``[B, D, h, w]``."""
        return tuple(layer.map() for layer in self.layers)


def extract_features(
    backbone: Encoder, images: Tensor, predictor: PoolingNeck | None = None, layers: Sequence[int] = (-1,)
) -> Features:
    """Features of whole images, in the modules' mode and with gradients.

    Args:
        backbone: The encoder of the images.
        images: ``[B, C, H, W]``, normalised.
        predictor: The neck that sums an image up; None for no feature 'predicted'.
        layers: Blocks whose tokens to return, counted from 0; negative ones from the end.

    Returns:
        Features.
    """
    context = backbone(images, layers=layers)
    extra = context.extra.shape[1]
    predicted = None if predictor is None else predictor.global_feature(context)
    found = []
    for state in context.hidden:
        tokens = backbone.normed(state)
        found.append(
            LayerFeatures(
                patches=tokens[:, extra:],
                extra=tokens[:, :extra],
                grid=context.grid,
                num_cls_tokens=context.num_cls_tokens,
                raw=state[:, extra:],
                raw_extra=state[:, :extra],
                predicted=predicted,
            )
        )
    return Features(found)


@contextmanager
def eval_mode(*modules: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards every submodule is in the mode it was in."""
    before = [(part, part.training) for module in modules for part in module.modules()]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in before:
            part.training = training


def encoders(model: MaskedImageModeling) -> dict[str, Callable[[Tensor], Features]]:
    """Functions from uint8 RGB images ``[B, 3, H, W]`` to features, of the student and the teacher of a training.

    Args:
        model: Without a data-parallel wrapper.

    Returns:
        By name: 'student', and 'teacher' where there is one with an encoder.
    """

    def encoder(part: nn.Module) -> Callable[[Tensor], Features]:
        predictor = next((each for each in part.modules() if isinstance(each, PoolingNeck)), None)

        def extract(images: Tensor) -> Features:
            images = model.data_preprocessor.normalize(images.to(model.data_preprocessor.device))
            with eval_mode(part):
                return extract_features(part.backbone, images, predictor)

        return extract

    found = {'student': encoder(model)}
    if model.teacher is not None and 'backbone' in model.teacher.parts:
        found['teacher'] = encoder(model.teacher)
    return found
