"""Nested dicts and lists, as configs and checkpoints are, and the names of state dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar('T')


def children(node: Any) -> Iterator[tuple[Any, Any]]:
    """Keys and values of a mapping, numbers and values of a list or tuple, nothing of anything else."""
    if isinstance(node, Mapping):
        yield from node.items()
    elif isinstance(node, list | tuple):
        yield from enumerate(node)


def walk(node: Any, path: str = '') -> Iterator[tuple[str, Any]]:
    """Everything inside nested mappings and lists, containers included, each before what is in it.

    Args:
        node: The outermost one.
        path: Dotted path of the outermost one.

    Yields:
        Dotted paths, such as ``model.branches.0.type``, and what lies there.
    """
    for key, value in children(node):
        inner = f'{path}.{key}' if path else str(key)
        yield inner, value
        yield from walk(value, inner)


def leaves(node: Any) -> Iterator[tuple[str, Any]]:
    """What :func:`walk` yields that is no container."""
    return ((path, value) for path, value in walk(node) if not isinstance(value, Mapping | list | tuple))


def dicts(node: Any) -> Iterator[dict[str, Any]]:
    """All dicts, the outermost one included."""
    if isinstance(node, dict):
        yield node
    yield from (value for _, value in walk(node) if isinstance(value, dict))


def present(parts: Mapping[str, T | None] | None) -> dict[str, T]:
    """What a config has under names, without what it has switched off by None."""
    return {name: part for name, part in (parts or {}).items() if part is not None}


def under(state_dict: Mapping[str, T], prefix: str) -> dict[str, T]:
    """The part of a state dict whose names begin with a prefix, which they lose."""
    return {name.removeprefix(prefix): value for name, value in state_dict.items() if name.startswith(prefix)}
