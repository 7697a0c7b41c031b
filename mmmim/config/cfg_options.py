"""``--cfg-options``: keys of a config, changed, added and removed from a command line."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Sequence
from typing import Any

from mmmim.utils import InputError
from mmmim.utils.internals import config_dict, parse_value, parse_values
from mmmim.utils.nested import walk
from mmmim.utils.options import is_placeholder

from .images import apply_images
from .keys import READ, copies_of, what_is_read

#: What the batch of a training is called elsewhere, in OpenMMLab and beyond.
_BATCH_KEYS = frozenset(
    [
        'batch_size',
        'samples_per_gpu',
        'batch_size_per_gpu',
        'imgs_per_gpu',
        'data.samples_per_gpu',
        'data.imgs_per_gpu',
        'data.train_dataloader.samples_per_gpu',
        'train_dataloader.batch_size',
        'train_dataloader.samples_per_gpu',
        'train_dataloader.imgs_per_gpu',
        'auto_scale_lr.base_batch_size',
    ]
)


def merge_cfg_options(cfg: Any, options: Sequence[str]) -> None:
    """Change keys of a config in place.

    Args:
        cfg: The config, mmengine's ``Config``; changed in place.
        options: ``key=value``, the key dotted, lists by index (``train_dataloader.dataset.pipeline.1.scale=64``). A key
            must exist; ``+key=value`` adds it, and the dicts on the way to it, and ``~key`` removes it. Values are
            numbers, True, False, None, strings, lists ``[a,b]`` or ``a,b`` and tuples ``"(a,b)"``; quotes keep a text
            as it is. Dicts, and what holds some, are written as in a config file: ``[dict(type='mmmim.CurvesHook')]``.

    Raises:
        InputError: A key does not exist, or nothing reads it; or an option cannot be understood, or ``images``.
    """
    for option in options:
        key, equals, text = option.partition('=')
        if key.startswith('~') and not equals:
            _remove(cfg, key.removeprefix('~'), option)
            continue
        add, key = key.startswith('+'), key.removeprefix('+')
        if not equals or not all(key.split('.')):
            raise InputError(f'--cfg-options {option}: write key=value, such as train_dataloader.num_workers=4.')
        _check_is_read(cfg, key, add, option)
        _set(cfg, key, _parse(option, text), add, option)
    apply_images(cfg)


def _check_is_read(cfg: Any, key: str, add: bool, option: str) -> None:
    """Refuse to change a variable of a config file whose copies are what is read, and to add what nothing reads."""
    name, _, rest = key.partition('.')
    if add and key in _BATCH_KEYS - {'auto_scale_lr.base_batch_size'} and 'global_batch_size' in cfg:
        raise InputError(f'--cfg-options {option}: {_unknown(cfg, key)}')
    if name in READ:
        return
    if name in cfg:
        copies = [f'{copy}.{rest}' if rest else copy for copy in copies_of(config_dict(cfg), name)]
        if copies:
            more = f' and {len(copies) - 3} more' if len(copies) > 3 else ''
            raise InputError(
                f'--cfg-options {option}: {name} is a variable of the config file, and what is read are copies of it: '
                f'set {", ".join(copies[:3])}{more}.'
            )
    elif add:
        known = [
            path
            for path, _ in walk(what_is_read(config_dict(cfg)))
            if path.rpartition('.')[2] == key.rpartition('.')[2]
        ]
        close = known[:2] or difflib.get_close_matches(name, READ, n=1, cutoff=0.7)
        hint = f'did you mean {" or ".join(close)}?' if close else 'what your own code reads stands in the config file.'
        raise InputError(f'--cfg-options {option}: nothing reads a key {name} at the top of a config: {hint}')


def _remove(cfg: Any, key: str, option: str) -> None:
    """Remove a key from a dict of a config."""
    *path, last = key.split('.')
    node = config_dict(cfg)
    for part in path:
        if isinstance(node, list):
            node = node[int(part)] if part.isdigit() and int(part) < len(node) else None
        else:
            node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node:
        raise InputError(f'--cfg-options {option}: the config has no {key} to remove.')
    del node[last]


def _parse(option: str, text: str) -> Any:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in '\'"':
        return text[1:-1]
    if re.search(r'(^|[\[(,])\s*(dict\(|\{)', text):
        try:
            return _literal(ast.parse(text, mode='eval').body)
        except (SyntaxError, ValueError) as error:
            raise InputError(
                f'--cfg-options {option}: write dicts as in a config file, with quotes around texts, and the whole '
                f'option in quotes for the shell: "custom_hooks=[dict(type=\'mmmim.CurvesHook\')]".'
            ) from error
    if text[:1] not in '[(' and ',' not in text:
        return parse_value(text)
    try:
        return parse_values(text)
    except AssertionError as error:
        raise InputError(f'--cfg-options {option}: the brackets do not match.') from error


def _literal(node: ast.expr) -> Any:
    """The value of an expression of literals, with ``dict(key=value)`` beside ``{'key': value}``; nothing is run.

    Raises:
        ValueError: There is something else in it.
    """
    from mmengine import ConfigDict  # commands that only print their help do without

    if isinstance(node, ast.Call):
        if not isinstance(node.func, ast.Name) or node.func.id != 'dict' or node.args:
            raise ValueError('a call of something else than dict')
        pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
    elif isinstance(node, ast.Dict):
        keys = [None if key is None else _literal(key) for key in node.keys]
        pairs = list(zip(keys, node.values, strict=True))
    elif isinstance(node, ast.List | ast.Tuple):
        values = [_literal(each) for each in node.elts]
        return values if isinstance(node, ast.List) else tuple(values)
    else:
        return ast.literal_eval(node)
    if not all(isinstance(key, str) for key, _ in pairs):
        raise ValueError('a key that is no text')
    return ConfigDict({key: _literal(value) for key, value in pairs})


def _set(cfg: Any, key: str, value: Any, add: bool, option: str) -> None:
    parts = key.split('.')
    node = config_dict(cfg)
    for depth, part in enumerate(parts):
        path, last = '.'.join(parts[:depth]), depth == len(parts) - 1
        if isinstance(node, list):
            if not part.isdigit() or int(part) >= len(node):
                raise InputError(
                    f'--cfg-options {option}: {path} is a list of {len(node)}: write {path}.INDEX with an index from 0 '
                    f'to {len(node) - 1}.'
                )
            part = int(part)  # type: ignore[assignment]
        elif not isinstance(node, dict):
            raise InputError(
                f'--cfg-options {option}: {path} is {node!r}, which has no keys. To replace it, give its whole value: '
                f'{path}=...'
            )
        elif part not in node or (not last and (node[part] is None or (add and is_placeholder(node[part])))):
            if not add:
                raise InputError(f'--cfg-options {option}: {_unknown(cfg, key)}')
            if not last:
                node[part] = {}
        if last:
            node[part] = value
        else:
            node = node[part]


def _unknown(cfg: Any, key: str) -> str:
    if key in _BATCH_KEYS and 'global_batch_size' in cfg:
        return (
            'the batch of a training is global_batch_size, which all processes share: set that. Another batch wants '
            'another learning rate (tools/misc/scale_recipe.py).'
        )
    scores = {known: _similarity(key, known) for known, _ in walk(what_is_read(config_dict(cfg)))}
    close = [known for known in sorted(scores, key=lambda k: -scores[k]) if scores[known] > 0.7][:3]
    suggestion = f'Did you mean {" or ".join(close)}? ' if close else ''
    return (
        f'the config has no {key}. {suggestion}A key that exists only as an argument of a class is not in the config: '
        f'+{key}=... adds it.'
    )


def _similarity(a: str, b: str) -> float:
    # Of the whole paths and of the last names: a name right but for its path counts as much as a misspelt one.
    pairs = (a, b), (a.rpartition('.')[2], b.rpartition('.')[2])
    return sum(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs) / 2
