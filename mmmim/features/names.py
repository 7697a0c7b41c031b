"""The one vocabulary for features of an image: what their names are made of, wherever one is given."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from mmmim.utils import InputError

#: One vector for the image. K is a number.
VECTORS = (
    'cls',
    'registers',
    'pooled',
    'predicted',
    'pooled_raw',
    'pooled_probe',
    'cls_probe',
    'max',
    'topK',
    'all',
)
#: One vector for each token, and the same of the patches as a map.
TOKENS = ('patches', 'tokens', 'featmap')
#: What is read before the final norm of the encoder.
_RAW = ('pooled_raw', 'pooled_probe', 'cls_probe')
_PART = re.compile(r'(?P<name>\w+)(?:@(?P<block>-?\d+))?')


@dataclass(frozen=True)
class Part:
    """A feature without a '+' in its name.

    Attributes:
        name: One of :data:`VECTORS` or :data:`TOKENS`.
        block: Number of the block that it is of, from 0 or from the end; None for the block that is asked for.
    """

    name: str
    block: int | None = None


@dataclass(frozen=True)
class FeatureName:
    """What a name asks for: parts, joined by '+', that are concatenated channel by channel in their order.

    ``'cls+pooled'`` is the CLS token and the average of the patches, side by side, of the block that is asked for;
    ``'cls@-2+cls@-1'`` is the CLS token of the last two blocks, whatever is asked for.

    Attributes:
        text: The name as it was given.
        parts: Features that are joined, in their order.
    """

    text: str
    parts: tuple[Part, ...]

    @classmethod
    @lru_cache(maxsize=256)
    def of(cls, text: str) -> FeatureName:
        """Read a name.

        Raises:
            InputError: There is no such feature.
        """
        parts = []
        for each in text.split('+'):
            found = _PART.fullmatch(each)
            if found is None or not _is_known(found['name']):
                raise InputError(
                    f'There is no feature {text!r}: use one of {", ".join((*VECTORS, *TOKENS))} (K a number, e.g. '
                    "top10), several of them joined by '+', of a certain block with its number behind '@' (cls@-2)."
                )
            parts.append(Part(found['name'], None if found['block'] is None else int(found['block'])))
        name = cls(text, tuple(parts))
        kinds = {part.name if part.name in TOKENS else 'vector' for part in parts}
        if len(kinds) > 1:
            raise InputError(
                f'The feature {text!r} joins {" and ".join(sorted(kinds))}: what is joined is all vectors of the '
                f'image, or all {", ".join(TOKENS[:-1])} or {TOKENS[-1]} of several blocks.'
            )
        if any(part.name == 'predicted' and part.block is not None for part in parts):
            raise InputError(
                f"The feature {text!r}: 'predicted' is made from the encoder's output, of no block: no '@'."
            )
        return name

    @property
    def kind(self) -> str:
        """'vector' ``[B, C]``, 'patches' or 'tokens' ``[B, N, C]``, or 'featmap' ``[B, C, h, w]``."""
        return self.parts[0].name if self.parts[0].name in TOKENS else 'vector'

    @property
    def blocks(self) -> tuple[int, ...]:
        """The blocks that it names, each once."""
        return tuple(dict.fromkeys(part.block for part in self.parts if part.block is not None))

    @property
    def of_a_block(self) -> bool:
        """Whether it depends on the block that is asked for."""
        return any(part.block is None and part.name != 'predicted' for part in self.parts)

    @property
    def predicts(self) -> bool:
        """Whether it needs a predictor."""
        return any(part.name == 'predicted' for part in self.parts)

    @property
    def normed(self) -> bool:
        """Whether it reads tokens behind the final norm of the encoder."""
        return any(part.name not in _RAW for part in self.parts)

    def lacking(self, num_cls_tokens: int, num_registers: int) -> list[str]:
        """Parts that an encoder with so many tokens does not have, whatever its predictor."""
        has = {'cls': num_cls_tokens, 'cls_probe': num_cls_tokens, 'registers': num_registers}
        return [name for name in dict.fromkeys(part.name for part in self.parts) if not has.get(name, True)]

    def width(self, dim: int, predicted_dim: int | None = None) -> int | None:
        """Number of channels C.

        Args:
            dim: Width D of the encoder.
            predicted_dim: Width Dp of the predictor; None without one.

        Returns:
            C; None where it depends on the number of patches ('all').
        """
        if any(part.name == 'all' for part in self.parts):
            return None
        return sum((predicted_dim or 0) if part.name == 'predicted' else dim for part in self.parts)


def _is_known(name: str) -> bool:
    return name != 'topK' and (name in VECTORS or name in TOKENS or re.fullmatch(r'top[1-9]\d*', name) is not None)


def check_pooling(name: str) -> None:
    """Refuse what is no name of a feature of the whole image.

    Raises:
        InputError: Naming those that there are.
    """
    if FeatureName.of(name).kind != 'vector':
        raise InputError(f'{name!r} is one vector for each token, and here one of the image is needed, such as pooled.')


def layers_of(names: Iterable[str]) -> tuple[int, ...]:
    """The blocks to ask for so that features have these names: those that they name, and at last the last one."""
    named = (block for name in names for block in FeatureName.of(name).blocks)
    return (*(block for block in dict.fromkeys(named) if block != -1), -1)
