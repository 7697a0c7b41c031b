"""Models out of files: built from the config that a checkpoint carries, and compared before memory is taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from mmmim.checkpoints.state_dict import check_state_dict, load_state_dict
from mmmim.checkpoints.stored_config import find_registered
from mmmim.registry import MODELS
from mmmim.utils import InputError
from mmmim.utils.nested import present

from .interfaces import PoolingNeck

#: Parameters of a model whose weights are not known.
_MOST_PARAMETERS = 20_000


def build_stored(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor] | None,
    source: str,
    build: Callable[[dict[str, Any]], Any] = MODELS.build,
    compared: bool = False,
) -> Any:
    """Build a part of a model as its checkpoint describes it, with its weights.

    It is built without memory first, and compared with its weights: sizes that do not belong to them cost nothing.

    Args:
        config: Config of the part, which has passed :func:`mmmim.checkpoints.stored_config.check_stored_model`.
        state: Weights under the names of the part; None for a random initialisation.
        source: Where they come from, for messages.
        build: What makes the part of its config.
        compared: Whether :func:`build_sizes` has compared the two already.

    Raises:
        InputError: There is no model of this description, or the weights do not fit it.
    """
    if state is not None and not compared:
        build_sizes(config, state, source, build)
    with _described(source), _bounded(state, source):
        module = build(dict(config))
    if state is not None:
        load_state_dict(module, state, source)
    return module


def build_sizes(
    config: Mapping[str, Any],
    state: Mapping[str, Tensor] | None,
    source: str,
    build: Callable[[dict[str, Any]], Any] = MODELS.build,
) -> Any:
    """Build a part without memory, on the meta device, and compare it with its weights.

    Args:
        config: Config of the part, which has passed :func:`mmmim.checkpoints.stored_config.check_stored_model`.
        state: Weights under the names of the part; None for no comparison.
        source: Where they come from, for messages.
        build: What makes the part of its config.

    Returns:
        The part without values; None where a class of a project cannot be built so.

    Raises:
        InputError: As for :func:`build_stored`.
    """
    try:
        with _described(source), _bounded(state, source), torch.device('meta'):
            module = build(dict(config))
    except InputError as error:
        found = find_registered(str(config.get('type')))
        if error.__cause__ is None or getattr(found, '__module__', '').startswith('mmmim.'):
            raise
        return None  # code that asks for values, which only classes of other packages do
    if state is not None and isinstance(module, nn.Module):
        check_state_dict(module, state, source)
    return module


def pooling_necks(model: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The necks of a model that sum up a whole image, see :class:`mmmim.models.PoolingNeck`.

    Other necks are not needed for features, so those of projects need not be imported.

    Args:
        model: Config of a :class:`MaskedImageModeling`, as plain data.

    Yields:
        What the names of a neck's weights begin with, and its config.
    """
    for name, branch in present(model.get('branches')).items():
        kind = find_registered(branch['neck']['type'])
        if isinstance(kind, type) and issubclass(kind, PoolingNeck):
            yield f'branches.{name}.neck.', branch['neck']


@contextmanager
def _described(source: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(str(error) if str(error).startswith(source) else f'{source}: {error}') from error.__cause__
    except Exception as error:  # whatever classes make of arguments that somebody else has written
        raise InputError(
            f'{source}: the model that it describes cannot be built ({type(error).__name__}: {error}). Use the version '
            'of the code that has written it, or another checkpoint.'
        ) from error


@contextmanager
def _bounded(state: Mapping[str, Tensor] | None, source: str) -> Iterator[None]:
    """Stop building once there are more parameters than weights: a depth of a milliard would never end."""
    most = _MOST_PARAMETERS if state is None else 2 * len(state) + 1000
    left = most

    def count(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise InputError(f'{source}: the model that it describes has more than {most} parameters, the file less.')

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()
