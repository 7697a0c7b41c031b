"""Features of encoders."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmmim.models.layers import layer_tokens, patch_grid
from mmmim.utils import InputError

#: Features of whole images by name, see :meth:`Features.pool`.
POOLINGS = ('predicted', 'cls', 'pooled', 'pooled_raw', 'max', 'topK', 'all')


def check_pooling(name: str) -> None:
    """Refuse a name that :meth:`Features.pool` does not know.

    Raises:
        InputError: Naming those that it does.
    """
    if (name not in POOLINGS and not re.fullmatch(r'top[1-9]\d*', name)) or name == 'topK':
        raise InputError(f'There is no feature {name!r}: use one of {", ".join(POOLINGS)} (K a number, e.g. top10).')


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
        raw: Patch tokens of each layer asked for before the final norm, ``[B, N, D]``.
    """

    patches: tuple[Tensor, ...]
    extra: tuple[Tensor, ...]
    pooled: Tensor
    cls: Tensor | None
    predicted: Tensor | None
    grid: tuple[int, int]
    raw: tuple[Tensor, ...] = ()

    def pool(self, name: str) -> Tensor | None:
        """One feature for each image.

        Args:
            name: 'predicted', 'cls' and 'pooled': as the attributes. 'pooled_raw': average of the patch tokens before
                the final norm. 'max': greatest value over the patches, channel by channel. 'top10' (or another
                number): average of the 10 greatest (Latent MIM, arXiv 2407.15837, appendix A.2). 'all': all patch
                tokens concatenated. All but the first three are of the last layer asked for.

        Returns:
            ``[B, D]`` (``[B, N * D]`` for 'all'), or None where the model has no such feature.

        Raises:
            InputError: There is no such name.
        """
        check_pooling(name)
        if name in ('predicted', 'cls', 'pooled'):
            return getattr(self, name)
        if name == 'pooled_raw':
            return self.raw[-1].mean(dim=1) if self.raw else None
        tokens = self.patches[-1]
        if name == 'all':
            return tokens.flatten(1)
        k = 1 if name == 'max' else min(int(name.removeprefix('top')), tokens.shape[1])
        return tokens.topk(k, dim=1).values.mean(dim=1)

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
    context = backbone(images, layers=(*layers, -1)).of(backbone)
    *tokens, last = layer_tokens(backbone, context)
    extra = context.extra.shape[1]
    cls = context.num_cls_tokens
    return Features(
        patches=tuple(states[:, extra:] for states in tokens),
        extra=tuple(states[:, :extra] for states in tokens),
        pooled=last[:, extra:].mean(dim=1),
        cls=last[:, :cls].mean(dim=1) if cls else None,
        predicted=None if predictor is None else predictor.global_feature(context),
        grid=patch_grid(images.shape[-2:], backbone.patch_size),
        raw=tuple(states[:, extra:] for states in context.hidden[:-1]),
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
