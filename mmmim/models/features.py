"""Features of encoders."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .backbones.pretrained import layer_tokens
from .layers import patch_grid


@dataclass
class Features:
    """Features of a batch.

    Legend: B images, N = h x w patches, E registers or CLS, D width of the encoder, Dp of the predictor.

    Attributes:
        patches: Final-normed patch tokens of each layer asked for, ``[B, N, D]``.
        extra: Final-normed extra tokens (CLS, registers) of each layer asked for, ``[B, E, D]``.
        pooled: Average of the patch tokens of the last encoder block, ``[B, D]``.
        cls: CLS token of the last block, the average where there are several, ``[B, D]``; None for models without.
        predicted: Global feature by predictor pooling (CAPI, table 5), ``[B, Dp]``; None for models without one.
        grid: ``(h, w)``.
    """

    patches: tuple[Tensor, ...]
    extra: tuple[Tensor, ...]
    pooled: Tensor
    cls: Tensor | None
    predicted: Tensor | None
    grid: tuple[int, int]

    def maps(self) -> tuple[Tensor, ...]:
        """``patches`` as maps ``[B, D, h, w]``."""
        return tuple(tokens.transpose(1, 2).unflatten(2, self.grid) for tokens in self.patches)


def extract_features(
    backbone: nn.Module, images: Tensor, predictor: nn.Module | None = None, layers: Sequence[int] = (-1,)
) -> Features:
    """Features of whole images, in the modules' mode and with gradients.

    Args:
        backbone: Encoder of the toolbox.
        images: ``[B, 3, H, W]``, normalised.
        predictor: Neck with a method ``global_feature(context)``.
        layers: Blocks whose tokens to return, counted from 0; negative ones from the end.

    Returns:
        Features.
    """
    context = backbone(images, layers=(*layers, -1))
    *tokens, last = layer_tokens(backbone, context)
    extra = context.extra.shape[1]
    cls = backbone.num_cls_tokens
    return Features(
        patches=tuple(states[:, extra:] for states in tokens),
        extra=tuple(states[:, :extra] for states in tokens),
        pooled=last[:, extra:].mean(dim=1),
        cls=last[:, :cls].mean(dim=1) if cls else None,
        predicted=None if predictor is None else predictor.global_feature(context),
        grid=patch_grid(images.shape[-2:], backbone.patch_size),
    )


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


def encoders(model: nn.Module) -> dict[str, Callable[[Tensor], Features]]:
    """Functions from uint8 RGB images ``[B, 3, H, W]`` to features, of the student and the teacher of a training.

    Args:
        model: A :class:`MaskedImageModeling`, without a data-parallel wrapper.

    Returns:
        By name: 'student', and 'teacher' where there is one.
    """

    def encoder(part: nn.Module) -> Callable[[Tensor], Features]:
        branches = getattr(part, 'branches', None)
        necks = [getattr(branch, 'neck', None) for branch in branches.children()] if branches is not None else []
        predictor = next((neck for neck in necks if hasattr(neck, 'global_feature')), None)

        def extract(images: Tensor) -> Features:
            images = model.data_preprocessor.normalize(images.to(model.data_preprocessor.device))
            with eval_mode(part):
                return extract_features(part.backbone, images, predictor)

        return extract

    parts = {'student': model, 'teacher': getattr(model, 'teacher', None)}
    return {name: encoder(part) for name, part in parts.items() if hasattr(part, 'backbone')}
