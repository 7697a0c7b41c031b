"""What options may be: ranges that stand in signatures, and the check of options against a signature.

A part says what it takes where it takes it::

    def __init__(self, depth: Count = 12, drop_path_rate: DropRate = 0.0) -> None: ...

:func:`check_options` compares options with such a signature: names, types and ranges. It serves the check of a whole
config before anything is built (:mod:`mmmim.engine.config_check`), the registries of mmmim, and whoever makes a part in
Python. Importing this module is cheap.
"""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import math
import numbers
import os
import textwrap
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from .errors import InputError

#: Packages that mmmim is built on.
HOSTS = ('mmengine', 'mmcv', 'mmpretrain', 'mmseg', 'mmdet', 'torch', 'timm', 'transformers')


@dataclass(frozen=True)
class Range:
    """Numbers between two limits; ``open_low`` and ``open_high`` exclude the limits themselves."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: float) -> bool:
        low = value > self.low if self.open_low else value >= self.low
        return low and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        parts = []
        if self.low > -math.inf:
            parts.append(f'{"above" if self.open_low else "of at least"} {self.low:g}')
        if self.high < math.inf:
            high = f'{self.high:g}' if self.high < 1e6 else f'{self.high:.0f}'
            parts.append(f'{"below" if self.open_high else "up to"} {high}')
        return ' and '.join(parts)


@dataclass(frozen=True)
class Members:
    """Lists of at least ``least`` values; ``ascending``: none below the one before it."""

    least: int = 1
    ascending: bool = False

    def __contains__(self, value: Sequence) -> bool:
        return len(value) >= self.least and (not self.ascending or list(value) == sorted(value))

    def __str__(self) -> str:
        return 'the smaller first' if self.ascending else f'at least {self.least} of them'


@dataclass(frozen=True)
class OptionsOf:
    """A dict of the options of something that has no ``type`` in configs; ``each``: a dict of such dicts, by name."""

    function: Callable
    each: bool = False


#: Whole numbers and shares, as signatures name them.
Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Number = Annotated[float, Range()]
Positive = Annotated[float, Range(0, open_low=True)]
NonNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
PositiveShare = Annotated[float, Range(0, 1, open_low=True)]
ShareBelowOne = Annotated[float, Range(0, 1, open_high=True)]
InnerShare = Annotated[float, Range(0, 1, open_low=True, open_high=True)]
#: Stochastic depth: the same rate everywhere, or those of the first and the last block.
DropRate = ShareBelowOne | tuple[ShareBelowOne, ShareBelowOne]
#: A side in pixels, or height and width.
Size = Count | tuple[Count, Count]
#: Two positive numbers, the smaller one first.
PositiveRange = Annotated[tuple[Positive, Positive], Members(2, ascending=True)]


def refuse(key: str, value: Any, expected: str) -> InputError:
    """The error of a value that is not what it must be, in one sentence."""
    shown = repr(value)
    return InputError(f'{key} must be {expected}, not {shown if len(shown) <= 80 else shown[:77] + "..."}.')


def check_value(key: str, value: Any, hint: Any) -> None:
    """Refuse a value that a type hint does not allow.

    Args:
        key: What the sentence calls it: its path in the config.
        value: Value of any type.
        hint: A type hint, such as ``Count | None`` of this module.

    Raises:
        InputError: It is none of these.
    """
    if not _conforms(value, hint):
        raise refuse(key, value, _describe(hint))


def check_choice(key: str, value: Any, choices: Sequence[Any]) -> None:
    """Refuse a value that is none of ``choices``, with the one that was probably meant.

    Raises:
        InputError: It is none of them.
    """
    if not any(value is choice or (value == choice and type(value) is type(choice)) for choice in choices):
        hint = _did_you_mean(value, [choice for choice in choices if isinstance(choice, str)])
        names = ', '.join(map(repr, choices))
        raise InputError(f'{key} must be one of {names}, not {str(value)[:80]!r}{hint}.')


def _did_you_mean(name: Any, known: Collection[str]) -> str:
    close = difflib.get_close_matches(str(name), list(known), n=1, cutoff=0.6)
    return f' (did you mean {close[0]}?)' if close else ''


def check_names(key: str, given: Collection[str], known: Collection[str], owner: str, left_over: bool = False) -> None:
    """Refuse options that something does not have, with those that were probably meant.

    Args:
        key: Path in the config of the dict that they are in; empty for its top.
        given: Names of the options.
        known: Names that ``owner`` has.
        owner: What takes the options.
        left_over: Whether to say how options of another type are removed.

    Raises:
        InputError: There are such.
    """
    wrong = [name for name in given if name not in known]
    if not wrong:
        return
    prefix = f'{key}.' if key else ''
    paths = ' and '.join(f'{prefix}{name}{_did_you_mean(name, known)}' for name in wrong[:4])
    remedy = ''
    if not any(difflib.get_close_matches(name, list(known), n=1) for name in wrong):
        shown = ', '.join(sorted(known)[:12])
        remedy = f'; it has {shown}' if shown else '; it has none'
        if left_over:
            removed = ' '.join(f'~{prefix}{name}' for name in wrong)
            remedy = (
                f': what is left over from another type goes with --cfg-options {removed}, or with _delete_=True in '
                'the dict of a config'
            )
    raise InputError(f'{owner} has no option {paths}{remedy}.')


def check_options(
    function: Callable, options: Mapping[str, Any], key: str, given: Collection[str] = (), complete: bool = True
) -> None:
    """Compare options with what a class or function takes: names, types and ranges.

    Arguments that are passed on as ``**kwargs`` are those of the base classes.

    Args:
        function: The class or function.
        options: Options by name, without ``type``.
        key: Path in the config, or a name, for messages.
        given: Names of arguments that come from elsewhere; they are not options.
        complete: Whether options without which it cannot be called must be there.

    Raises:
        InputError: One sentence that names the option.
    """
    known, takes_all = parameters_of(function)
    owner = getattr(function, '__name__', str(function))
    names = [name for name in known if name not in given]
    if not takes_all:
        check_names(key, [name for name in options if name not in given], names, owner, left_over=True)
    if complete:
        lacking = [name for name in names if known[name].default is inspect.Parameter.empty and name not in options]
        if lacking and not takes_all:
            raise InputError(f'{key}: {owner} needs {" and ".join(lacking)}: set {key}.{lacking[0]}.')
    for name, value in options.items():
        if name in known and not is_placeholder(value):
            _check_argument(f'{key}.{name}', value, known[name])


def is_placeholder(value: Any) -> bool:
    """Whether a value is one that a tool replaces by a fact of a pre-trained encoder."""
    return isinstance(value, str) and value.startswith('pretrained:')


@dataclass(frozen=True)
class Parameter:
    """An argument of a class or function.

    Attributes:
        hint: Type hint of the argument; ``Any`` where it has none.
        default: Default of the argument; ``inspect.Parameter.empty`` where it has none.
        host: Whether its annotation is a hint for readers: of classes that are not mmmim's and use no range of this
            module. Only a text in the place of a number is refused by it.
    """

    hint: Any
    default: Any
    host: bool


@functools.cache
def parameters_of(function: Callable) -> tuple[dict[str, Parameter], bool]:
    """Arguments by name, those that ``**kwargs`` hand on to base classes included, and whether any other is taken."""
    if not inspect.isclass(function):
        return _parameters(function)
    known: dict[str, Parameter] = {}
    takes_all = False
    for owner in function.__mro__:
        if '__init__' not in owner.__dict__ or owner is object:
            continue
        if owner.__module__ == 'torch.nn.modules.module':  # it takes all to refuse all
            return known, False
        init = owner.__dict__['__init__']
        parameters, takes_all = _parameters(init)
        if takes_all and _keeps(init):  # what it does with them, only it knows
            return {**parameters, **known}, True
        if known:  # a class may give its base what the base needs
            parameters = {
                name: replace(parameter, default=_optional(parameter)) for name, parameter in parameters.items()
            }
        known = {**parameters, **known}
        # Those called so are handed on to the base class; others go elsewhere.
        if not takes_all or 'kwargs' not in inspect.signature(owner.__dict__['__init__']).parameters:
            break
    return known, takes_all


def _keeps(init: Callable) -> bool:
    """Whether a constructor uses its ``**kwargs`` itself: other than by handing them to that of a base class."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(init))))
    except (OSError, TypeError, SyntaxError):
        return True
    nodes = list(ast.walk(tree))
    kwargs = next((node.args.kwarg for node in nodes if isinstance(node, ast.FunctionDef) and node.args.kwarg), None)
    if kwargs is None:
        return True

    def uses(part: ast.AST) -> bool:
        return any(isinstance(node, ast.Name) and node.id == kwargs.arg for node in ast.walk(part))

    methods = [
        (node, node.func) for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    takes_out = any(method.attr == 'pop' and uses(method.value) for _, method in methods)
    hands_on = any(
        method.attr == '__init__' and any(word.arg is None and uses(word.value) for word in call.keywords)
        for call, method in methods
    )
    # Libraries that never look at them ignore what is misspelt; an author's own class may mean to.
    ignores = not uses(tree) and _package(init) in ('mmmim', *HOSTS)
    return takes_out or not (hands_on or ignores)


def _package(thing: Any) -> str:
    return str(getattr(thing, '__module__', '')).split('.')[0]


def _optional(parameter: Parameter) -> Any:
    return NotImplemented if parameter.default is inspect.Parameter.empty else parameter.default


def _parameters(function: Callable) -> tuple[dict[str, Parameter], bool]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return {}, True
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception:  # names that only a type checker imports
        hints = {}
    host = _package(function) != 'mmmim' and not any(_has_rules(hint) for hint in hints.values())
    kinds = inspect.Parameter
    known = {
        name: Parameter(hints.get(name, Any), parameter.default, host)
        for name, parameter in signature.parameters.items()
        if parameter.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD) and name != 'self'
    }
    return known, any(parameter.kind is kinds.VAR_KEYWORD for parameter in signature.parameters.values())


def _check_argument(key: str, value: Any, parameter: Parameter) -> None:
    if value is None and parameter.default is None:
        return
    if parameter.host:
        if isinstance(value, str) and _numeric(parameter.hint):
            raise refuse(key, value, 'a number')
        return
    check_value(key, value, parameter.hint)


def _has_rules(hint: Any) -> bool:
    """Whether a hint has a rule of this module."""
    rules = getattr(hint, '__metadata__', ())
    return any(isinstance(rule, (Range, Members, OptionsOf)) for rule in rules) or any(
        _has_rules(part) for part in typing.get_args(hint)
    )


def _numeric(hint: Any) -> bool:
    """Whether a hint is of numbers or None only."""
    if _is_union(hint):
        return all(_numeric(part) for part in typing.get_args(hint))
    return hint in (int, float, type(None))


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def _conforms(value: Any, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        base, *rules = arguments
        limits = [rule for rule in rules if isinstance(rule, (Range, Members))]
        return _conforms(value, base) and all(value in limit for limit in limits)
    if _is_union(hint):
        return any(_conforms(value, part) for part in arguments)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if hint is str:
        return isinstance(value, (str, os.PathLike))
    if hint is bool:
        return isinstance(value, bool)
    if hint in (None, type(None)):
        return value is None
    return _conforms_to_container(value, origin or hint, arguments)


def _conforms_to_container(value: Any, origin: Any, arguments: tuple) -> bool:
    if not inspect.isclass(origin):
        return True
    if origin is tuple or (issubclass(origin, Sequence) and origin is not str):
        value = value.tolist() if hasattr(value, 'tolist') else value
        if not isinstance(value, Sequence) or isinstance(value, str):
            return False
        if origin is tuple and arguments and arguments[-1] is not Ellipsis:
            fits = len(value) == len(arguments)
            return fits and all(_conforms(v, hint) for v, hint in zip(value, arguments, strict=True))
        return not arguments or all(_conforms(v, arguments[0]) for v in value)
    if issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            return False
        return len(arguments) < 2 or all(_conforms(v, arguments[1]) for v in value.values())
    # Of what else there is, paths, modules and functions, configs hold no values that could be told apart here.
    return True


def _describe(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        words = _describe(arguments[0])
        for rule in arguments[1:]:
            if isinstance(rule, Range) and str(rule):
                words += f' {rule}'
            elif isinstance(rule, Members):
                words += f', {rule}'
        return words
    if _is_union(hint):
        parts = [_describe(part) for part in arguments]
        return ' or '.join(dict.fromkeys(parts))
    if origin is Literal:
        return ' or '.join(map(repr, arguments))
    names = {int: 'a whole number', float: 'a finite number', bool: 'True or False', str: 'a text', Any: 'anything'}
    if hint in names:
        return names[hint]
    if hint in (None, type(None)):
        return 'None'
    kind = origin or hint
    if inspect.isclass(kind) and issubclass(kind, Mapping):
        return 'a dict'
    if inspect.isclass(kind) and issubclass(kind, Sequence):
        if kind is tuple and arguments and arguments[-1] is not Ellipsis:
            same = len(set(arguments)) == 1
            members = f'each {_describe(arguments[0])}' if same else ', '.join(_describe(part) for part in arguments)
            return f'{len(arguments)} values, {members}'
        return f'a list, each {_describe(arguments[0])}' if arguments else 'a list'
    return getattr(hint, '__name__', str(hint))


def checks_its_options(cls: type) -> type:
    """Let a class refuse wrong options whoever makes it: types and ranges of its own arguments."""
    init = cls.__dict__.get('__init__')
    if init is None or getattr(init, 'checks_options', False):
        return cls

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        known, _ = _parameters_once(init)
        names = list(known)
        for name, value in [*zip(names, args, strict=False), *kwargs.items()]:
            if name in known and not is_placeholder(value):
                _check_argument(f'{cls.__name__}.{name}', value, known[name])
        init(self, *args, **kwargs)

    checked.checks_options = True  # type: ignore[attr-defined]
    cls.__init__ = checked  # type: ignore[misc]
    return cls


_parameters_once = functools.cache(_parameters)
