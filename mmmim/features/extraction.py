"""Features of encoders."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmmim.models.algorithms import MaskedImageModeling
from mmmim.models.interfaces import Encoder, PoolingNeck
from mmmim.models.layers import layer_index
from mmmim.utils import InputError
from mmmim.utils.internals import register_pytree
from mmmim.utils.nested import present

from .names import FeatureName, layers_of


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
        numbers: Numbers of the block that it is the output of: from 0, and from the end; none where they are not known.
    """

    patches: Tensor
    extra: Tensor
    grid: tuple[int, int]
    num_cls_tokens: int = 0
    raw: Tensor | None = None
    raw_extra: Tensor | None = None
    predicted: Tensor | None = None
    numbers: tuple[int, ...] = ()

    @property
    def pooled(self) -> Tensor:
        """Average of the patch tokens, ``[B, D]``."""
        return self.patches.mean(dim=1)

    @property
    def cls(self) -> Tensor | None:
        """The CLS token, the average where there are several, ``[B, D]``; None for models without."""
        return self.extra[:, : self.num_cls_tokens].mean(dim=1) if self.num_cls_tokens else None

    @property
    def registers(self) -> Tensor | None:
        """Average of the registers, ``[B, D]``; None for models without."""
        rest = self.extra[:, self.num_cls_tokens :]
        return rest.mean(dim=1) if rest.shape[1] else None

    @property
    def _raw_cls(self) -> Tensor | None:
        """Tokens that stand for the whole image before the final norm; None where there are none."""
        return None if self.raw_extra is None or not self.num_cls_tokens else self.raw_extra[:, : self.num_cls_tokens]

    def pool(self, name: str) -> Tensor | None:
        """A feature of each image by its name.

        Names are joined by '+' where features are concatenated.

        Args:
            name: 'cls', 'registers', 'pooled', 'predicted': as the attributes. 'pooled_raw': average of the patch
                tokens before the final norm. 'pooled_probe' and 'cls_probe': average of the patch tokens, or of the
                CLS tokens or proxies, before the final norm, each then through a LayerNorm of its own without weights
                (SemanticMIM, arXiv 2406.10673; eps 1e-6), which is what its probes of inner blocks see. 'max':
                greatest value over the patches, channel by channel. 'top10' (or another number): average of the 10
                greatest (Latent MIM, arXiv 2407.15837, appendix A.2). 'all': all patch tokens concatenated.
                'patches', 'tokens', 'featmap': patch tokens; extra tokens and patch tokens; the patch tokens as a map.

        Returns:
            ``[B, C]``, C being D for each part, Dp for 'predicted' and ``N * D`` for 'all'; ``[B, N, C]`` for
            'patches', ``[B, E + N, C]`` for 'tokens', ``[B, C, h, w]`` for 'featmap'. None where the model has no such
            feature.

        Raises:
            InputError: There is no such name, or it names another block.
        """
        return Features([self]).pool(name)

    def _part(self, name: str) -> Tensor | None:
        """:meth:`pool` of a name without '+' and '@'."""
        if name in ('predicted', 'cls', 'registers', 'pooled', 'patches'):
            return getattr(self, name)
        if name == 'tokens':
            return torch.cat([self.extra, self.patches], dim=1)
        if name == 'featmap':
            return self.map()
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

    def pool(self, name: str, place: int = -1) -> Tensor | None:
        """A feature by its name, see :meth:`LayerFeatures.pool`.

        Args:
            name: Name of the feature. A part of it with a number, such as 'cls@3', is of that block.
            place: Place of the layer that all other parts are of, among those asked for.

        Returns:
            The feature; None where the model does not have all of its parts.

        Raises:
            InputError: There is no such name, or the block that it names was not asked for.
        """
        return self.read(FeatureName.of(name), place)

    def read(self, name: FeatureName, place: int = -1) -> Tensor | None:
        """:meth:`pool` of a name that has been read."""
        found = []
        for part in name.parts:
            layer = self.layers[place] if part.block is None else self._of_block(part.block, name.text)
            value = layer._part(part.name)
            if value is None:
                return None
            found.append(value)
        return found[0] if len(found) == 1 else torch.cat(found, dim=1 if name.kind == 'featmap' else -1)

    def _of_block(self, number: int, name: str) -> LayerFeatures:
        for layer in self.layers:
            if number in layer.numbers:
                return layer
        known = [str(layer.numbers[0]) for layer in self.layers if layer.numbers]
        raise InputError(
            f'The feature {name!r} is of block {number}, and there are features of {", ".join(known) or "no block"}: '
            f'ask for it, layers={layers_of([name])}.'
        )

    def maps(self) -> tuple[Tensor, ...]:
        """Of each layer ``[B, D, h, w]``."""
        return tuple(layer.map() for layer in self.layers)

    def tensors(self) -> dict[str, Tensor]:
        """The features that have a name of their own, of the last layer: what exporters and traces want.

        Returns:
            ``patches [B, N, D]``, ``pooled [B, D]`` and, where the model has them, ``extra [B, E, D]``, ``cls [B, D]``
            and ``predicted [B, Dp]``.
        """
        last = self.layers[-1]
        extra = last.extra if last.extra.shape[1] else None
        named = {'patches': last.patches, 'pooled': last.pooled, 'extra': extra, 'cls': last.cls}
        return present({**named, 'predicted': last.predicted})


_TENSORS = ('patches', 'extra', 'raw', 'raw_extra', 'predicted')

register_pytree(
    LayerFeatures,
    lambda layer: ([*(getattr(layer, name) for name in _TENSORS), *layer.grid], (layer.num_cls_tokens, *layer.numbers)),
    lambda values, facts: LayerFeatures(
        **dict(zip(_TENSORS, values, strict=False)),
        grid=tuple(values[len(_TENSORS) :]),
        num_cls_tokens=facts[0],
        numbers=tuple(facts[1:]),
    ),
)
register_pytree(Features, lambda features: (list(features.layers), ()), lambda layers, _: Features(layers))


def extract_features(
    backbone: Encoder,
    images: Tensor,
    predictor: PoolingNeck | None = None,
    layers: Sequence[int] = (-1,),
    final_norm: bool = True,
) -> Features:
    """Features of whole images, in the modules' mode and with gradients.

    Blocks after the last layer are computed only where the predictor needs them.

    Args:
        backbone: The encoder of the images.
        images: ``[B, C, H, W]``, normalised.
        predictor: The neck that sums an image up; None for no feature 'predicted'.
        layers: Blocks whose tokens to return, counted from 0; negative ones from the end.
        final_norm: Whether tokens, other than the raw ones, are those after the encoder's final norm.

    Returns:
        Features.
    """
    blocks = [layer_index(layer, backbone.depth) for layer in layers]
    context = backbone(images, layers=blocks, depth=max(blocks) + 1 if predictor is None else None)
    extra = context.extra.shape[1]
    predicted = None if predictor is None else predictor.global_feature(context)
    found = []
    for block, state in zip(blocks, context.hidden, strict=True):
        tokens = backbone.normed(state) if final_norm else state
        found.append(
            LayerFeatures(
                patches=tokens[:, extra:],
                extra=tokens[:, :extra],
                grid=context.grid,
                num_cls_tokens=context.num_cls_tokens,
                raw=state[:, extra:],
                raw_extra=state[:, :extra],
                predicted=predicted,
                numbers=(block, block - backbone.depth),
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


def encoders(model: MaskedImageModeling, names: Sequence[str] = ()) -> dict[str, Callable[[Tensor], Features]]:
    """Functions from uint8 RGB images ``[B, 3, H, W]`` to features, of the student and the teacher of a training.

    Args:
        model: Without a data-parallel wrapper.
        names: Names of the features that will be asked for; the blocks that they name come before the last one.

    Returns:
        By name: 'student', and 'teacher' where there is one with an encoder.
    """
    layers = layers_of(names)

    def encoder(part: nn.Module) -> Callable[[Tensor], Features]:
        predictor = next((each for each in part.modules() if isinstance(each, PoolingNeck)), None)

        def extract(images: Tensor) -> Features:
            images = model.data_preprocessor.normalize(images.to(model.data_preprocessor.device))
            with eval_mode(part):
                return extract_features(part.backbone, images, predictor, layers)

        return extract

    found = {'student': encoder(model)}
    if model.teacher is not None and 'backbone' in model.teacher.parts:
        found['teacher'] = encoder(model.teacher)
    return found
