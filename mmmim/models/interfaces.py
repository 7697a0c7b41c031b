"""What the parts of a masked image model are to each other.

A model has an :class:`Encoder` and branches of a :class:`TargetGenerator`, a :class:`Neck` and a :class:`Head`. Each
derives from its class here, which says what it is called with, what it gives, and what others may ask it. What a part
lacks is named when the model is built.

Legend: B images, G masks (one or more of an image), T target blocks of a mask, N patches, V visible, M predicted in a
block, E extra tokens (CLS, proxies, registers), D width of the encoder, Dp of a neck, K prototypes or tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmmim.structures import Context, PatchMask, Prediction, Target
from mmmim.structures.mim import READS
from mmmim.utils import InputError

from .teacher import TeacherView

#: What parts must have equal, in the order in which it is compared: other sizes follow from the first ones.
QUANTITIES = (
    'channels',
    'patch size',
    'width',  # of the encoder
    'prediction width',
    'prototypes',
    'grid',
    'extra tokens',
    'depth',  # of the encoder
    'mean',
    'std',
)
#: Of a part: by quantity, its own name for it and the value; None where it takes any.
Sizes = dict[str, tuple[str, Any]]


def known(values: Tensor) -> list[float] | None:
    """The values of a buffer for comparison, to four decimals; None on the meta device, where there are none."""
    return None if values.is_meta else [round(value, 4) for value in values.flatten().tolist()]


class Part(BaseModule):
    """What encoders, target generators, necks and heads have in common."""

    #: Attributes and methods that a class of this kind must give itself.
    REQUIRED: ClassVar[tuple[str, ...]] = ()

    def sizes(self) -> Sizes:
        """What must be equal in the parts of a branch, as far as this one has it.

        Returns:
            By quantity, one of :data:`QUANTITIES`: the name of the option, for messages, and its value.
        """
        return {}


class Encoder(Part):
    """A Vision Transformer: from images to tokens.

    Attributes:
        embed_dim: Width D of the tokens.
        depth: Number of blocks.
        patch_size: Side of a patch in pixels.
        grid: ``(h, w)`` in patches of the images that it is trained on.
        in_channels: Channels of the images.
        num_cls_tokens: Tokens that stand for the whole image, the first of the extra tokens.
        num_extra_tokens: Number of extra tokens, E.
        mean: Mean of every channel, in the 0-255 range, RGB, that its images are normalised with; None: the model's
            data preprocessor says.
        std: Standard deviation of every channel, in the 0-255 range, RGB, that its images are normalised with; None:
            the model's data preprocessor says.
        takes_reads: Whether ``forward`` has an argument ``reads``, as that of :class:`mmmim.models.ViT`.
        takes_mean: Whether ``forward`` has an argument ``mean``, as that of :class:`mmmim.models.ViT`.
    """

    REQUIRED = ('embed_dim', 'depth', 'patch_size', 'grid', 'forward')

    embed_dim: int
    depth: int
    patch_size: int
    grid: tuple[int, int]
    in_channels: int = 3
    num_cls_tokens: int = 0
    num_extra_tokens: int = 0
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    takes_reads: bool = False
    takes_mean: bool = False

    def sizes(self) -> Sizes:
        """Width, depth, patches and channels."""
        return {
            'channels': ('in_channels', self.in_channels),
            'width': ('embed_dim', self.embed_dim),
            'patch size': ('patch_size', self.patch_size),
            'grid': ('grid', tuple(self.grid)),
            'extra tokens': ('num_extra_tokens', self.num_extra_tokens),
            'depth': ('depth', self.depth),
        }

    def forward(
        self, images: Tensor, mask: PatchMask | None = None, layers: Sequence[int] = (), depth: int | None = None
    ) -> Context:
        """Encode.

        Args:
            images: ``[B, C, H, W]``, normalised.
            mask: Mask whose visible patches are seen; None for the whole images.
            layers: Blocks whose output to keep in ``hidden``, negative ones from the end.
            depth: How many blocks to run before the final norm; None for all.

        Returns:
            Tokens after the final norm, ``visible [G, V, D]`` and ``extra [G, E, D]``; states before it in ``hidden``.
        """
        raise NotImplementedError

    def normed(self, state: Tensor) -> Tensor:
        """The output of a block, ``[G, E + V, D]``, after the final norm; as it is where there is none."""
        return state

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Layer of a parameter and their number, in the convention of mmpretrain: 0 is what comes before the blocks.

        Args:
            param_name: Name of the parameter.
            prefix: What the names of this encoder's parameters begin with.

        Raises:
            InputError: The encoder does not tell.
        """
        raise InputError(
            f'{type(self).__name__} does not tell the layers of its parameters (get_layer_depth), which a layer decay '
            'of the learning rate needs: leave layer_decay out.'
        )

    def unread(self, depth: int | None, final_norm: bool) -> Iterator[nn.Module | nn.Parameter]:
        """What the states of the first ``depth`` blocks do not depend on: it gets no gradients from them.

        Args:
            depth: How many blocks are run; None where the output of the encoder is read, too.
            final_norm: Whether the states are normed.
        """
        yield from ()


class TargetGenerator(Part):
    """What the predicted patches are compared with.

    Attributes:
        differentiable: Whether targets carry gradients into the model; they are then made with every micro-batch.
        distribution: Whether a target is a distribution over prototypes.
        num_tokens: K where targets are tokens; None where they are vectors.
        balances: Whether a target depends on the other images of the batch, of which there must be two at least.
        layers: Blocks of the student's encoder, or of its average, whose states targets are made of.
        micro_batch_size: Images of one forward pass of an encoder that it has of its own and does not train, which the
            model sets; None: the whole batch. Targets do not depend on it.
    """

    REQUIRED = ('forward',)

    differentiable: bool = False
    distribution: bool = False
    num_tokens: int | None = None
    balances: bool = False
    layers: Sequence[int] = ()
    micro_batch_size: int | None = None

    def mask(self, images: Tensor, mask: PatchMask) -> PatchMask:
        """Masks to train on in the place of those of the loader, for masks that depend on what an encoder sees.

        It is asked in the step, before targets are made, on the device and without a host sync. What it draws follows
        torch's generators in training mode, and is the same every time otherwise. Other looks at a batch, such as
        pictures and health reports, take the loader's masks.

        Args:
            images: ``[B, C, H, W]``, normalised.
            mask: Masks of the loader, or those that the generator of the branch before has drawn.
        """
        return mask

    def forward(self, images: Tensor, mask: PatchMask, teacher: TeacherView | None, backbone: Encoder) -> Target:
        """Targets of the predicted patches.

        Args:
            images: ``[B, C, H, W]``, normalised.
            mask: What is predicted.
            teacher: The EMA of the student, looking at these images; None in methods without one.
            backbone: The student's encoder.

        Returns:
            ``patches [G, T*M, D or K]``, or tokens ``[G, T*M]``.
        """
        raise NotImplementedError

    def describe_batch(self, images: int) -> str:
        """What it makes of a batch of ``images`` over all processes, in words for the log; empty for nothing."""
        return ''


class Neck(Part):
    """From the encoder's context to predictions of the masked patches.

    Attributes:
        layers: Blocks of the encoder whose states it reads, found in ``context.hidden`` in this order.
        reads: What it reads of the encoder's last block, in the context and its ``hidden``: one of
            :data:`mmmim.structures.mim.READS`. With less than 'all' in all parts the block runs for less.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ('forward',)

    layers: Sequence[int] = ()
    reads: str = 'all'

    def forward(self, context: Context, mask: PatchMask) -> Prediction:
        """Predict the patches of ``mask.predict``: ``patches [G, T*M, Dp or K]``."""
        raise NotImplementedError


class PoolingNeck(Neck):
    """A neck that also sums up a whole image, as CAPI's predictor does (arXiv 2502.08769, table 5).

    Attributes:
        out_dim: Width Dp of what it sums an image up to.
    """

    REQUIRED = ('out_dim', 'forward', 'global_feature')

    out_dim: int

    def global_feature(self, context: Context) -> Tensor:
        """One feature ``[B, Dp]`` of whole images: ``visible [B, N, D]``."""
        raise NotImplementedError

    def unread(self) -> Iterator[nn.Module | nn.Parameter]:
        """What :meth:`global_feature` does not depend on: it gets no gradients from it."""
        yield from ()


class Head(Part):
    """Losses of predictions against targets.

    Attributes:
        reads: What it reads of the context, as in :class:`Neck`.
    """

    REQUIRED = ('loss',)

    reads: str = 'all'

    def loss(self, prediction: Prediction, target: Target, context: Context) -> dict[str, Tensor]:
        """Compare.

        Args:
            prediction: Prediction of the neck.
            target: Targets of the target generator.
            context: Output of the encoder.

        Returns:
            Scalars by name, 'loss' or 'loss_...'.
        """
        raise NotImplementedError


class Tokenizer(nn.Module):
    """From pictures to one token per patch, of a fixed number of them.

    Attributes:
        num_tokens: Number of tokens, K.
        in_channels: Channels of the pictures; None for any.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ('num_tokens', 'forward')

    num_tokens: int
    in_channels: int | None = None

    def forward(self, pixels: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens ``[B, N]``, int64 in ``[0, K)`` and row-major over the grid, of ``pixels [B, C, H, W]`` in [0, 1]."""
        raise NotImplementedError


def most_read(parts: Iterable[str]) -> str:
    """What several parts read of the encoder's last block together, each one of :data:`mmmim.structures.mim.READS`.

    Raises:
        InputError: A part says another word.
    """
    said = ['extra', *parts]
    if unknown := [reads for reads in said if reads not in READS]:
        raise InputError(f'reads of a neck or head must be one of {", ".join(READS)}, got {unknown[0]!r}.')
    return max(said, key=READS.index)


P = TypeVar('P', bound='Part | Tokenizer')


def check_part(part: Any, kind: type[P], key: str) -> P:
    """Refuse what is no part of a kind, or lacks what the kind must have.

    Args:
        part: What was built.
        kind: One of the classes of this module.
        key: Key of the part in the config, for messages.

    Returns:
        The part.

    Raises:
        InputError: Naming the part and all that it lacks.
    """
    name = type(part).__name__
    lacking = [each for each in kind.REQUIRED if not _has(part, kind, each)]
    lacks = f' It lacks {", ".join(lacking)}.' if lacking else ''
    if not isinstance(part, kind):
        raise InputError(
            f'{key} is a {name}, which is no {kind.__name__}: derive it from mmmim.models.{kind.__name__}, which says '
            f'what one must have.{lacks}'
        )
    if lacking:
        raise InputError(f'{key} is a {name}.{lacks} See mmmim.models.{kind.__name__}.')
    return part


def _has(part: Any, kind: type, name: str) -> bool:
    """Whether a part has an attribute or a method of its own, not one of the kind or of torch that only raises."""
    own = getattr(type(part), name, None)
    if callable(own):
        return own not in (getattr(kind, name, None), getattr(nn.Module, name, None))
    return hasattr(part, name)


def balances(model: nn.Module) -> bool:
    """Whether a target generator of a model balances over the images of a batch, of which it needs two at least."""
    return any(isinstance(module, TargetGenerator) and module.balances for module in model.modules())


def check_sizes(parts: Mapping[str, Sizes]) -> None:
    """Refuse parts whose sizes contradict each other.

    Args:
        parts: Sizes of each by its config key; a part is compared with the last one that has the quantity.

    Raises:
        InputError: Naming both config keys.
    """
    for quantity in QUANTITIES:
        said = [(key, *sizes[quantity]) for key, sizes in parts.items() if quantity in sizes]
        said = [each for each in said if each[2] is not None]
        for key, option, value in reversed(said[:-1]):
            other, its_option, expected = said[-1]
            if value != expected:
                raise InputError(
                    f'{key}.{option} is {value} and {other}.{its_option} is {expected}: they must be equal.'
                )
