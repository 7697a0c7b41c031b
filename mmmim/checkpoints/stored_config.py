"""The gate for model configs that come out of files.

A checkpoint carries the config of its model as plain data, and building it calls whatever its ``type`` names. The
registries of mmengine also take dotted names of anything that can be imported, so plain data alone would run any
command. :func:`check_stored_model` stands before every such build: nothing that a file says is imported or called that
is not a class which a known package, or an import of the user in this process, has registered for that role, and no
file that it names is opened.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from mmmim.utils import InputError
from mmmim.utils.internals import registry_of
from mmmim.utils.names import printable

#: Packages whose registries may be filled on account of a name in a file. They are imported by these names only.
_PACKAGES = ('mmmim', 'mmpretrain', 'mmseg')
#: Registries (of mmengine, by name) that a dict below a key is built from; everything else is a part of a model.
_ROLES = {
    'init_cfg': 'WEIGHT_INITIALIZERS',
    'override': 'WEIGHT_INITIALIZERS',
    'sampler': 'TASK_UTILS',
    'assigner': 'TASK_UTILS',
    'match_costs': 'TASK_UTILS',
    'augments': 'BATCH_AUGMENTS',
}
_ROLE_NAMES = {
    'MODELS': 'model parts',
    'WEIGHT_INITIALIZERS': 'weight initialisers',
    'TASK_UTILS': 'samplers and assigners',
    'BATCH_AUGMENTS': 'batch augmentations',
}
#: Registered classes whose arguments name repositories, files or code, and the modules they lie in.
_READERS = re.compile(
    r'transformers\.|timm\.|torchvision\.'
    r'|mmpretrain\.(models\.(multimodal|retrievers|classifiers\.(hugging_face|timm)|backbones\.timm_backbone'
    r'|heads\.vqa_head|selfsup\.milan|utils\.huggingface)|utils\.dependency)\b'
    r'|mmseg\.models\.(backbones\.(timm_backbone|vpd)|text_encoder)\b'
)
#: Arguments that take a path or a name to download where their value is a text.
_FILE_KEY = re.compile(
    r'(^|_)(pretrained|checkpoint|ckpt|weights?|codebook|path|file|filename|url|dir|vocab|repo|load_from|margins'
    r'|ans2label)$|^pretrained|name_or_path'
)
#: Keys of configs that import, merge or switch packages.
_COMMANDS = ('custom_imports', '_base_', '_delete_', 'default_scope', 'trust_remote_code', 'trust_checkpoint')
_FILE_NAME = re.compile(
    r'[/\\]|\.(pth|pt|pkl|pickle|bin|ckpt|tar|gz|zip|npy|npz|json|ya?ml|txt|py|so|safetensors|h5|csv)$', re.IGNORECASE
)
_MOST_LEVELS = 40
_MOST_VALUES = 100_000
#: Larger than any size of a model; code that counts up to one of them is done before parameters are counted.
_LARGEST = 1_000_000
#: Parts of a model that features come from, and parts that do not contribute to them.
_BUILT = ('backbone', 'data_preprocessor')
_BRANCH_PART = re.compile(r'model\.branches\.[^.]+\.(target_generator|neck|head)')
_BACKBONES = ('mmmim.PretrainedBackbone', 'PretrainedBackbone')


def check_stored_model(
    model: Any, source: Any, features_only: bool = False, builds_targets: bool = False
) -> dict[str, Any]:
    """Refuse the config of a model that a file carries, unless building it runs nothing but known classes.

    Args:
        model: The config, as it was read.
        source: The file, for messages.
        features_only: Only ``backbone``, ``data_preprocessor`` and registered necks will be built. Then the model and
            the parts of its branches may be of classes that a project would register, because nothing builds them.
        builds_targets: Target generators will be built as well, so they may not name files either.

    Returns:
        ``model``.

    Raises:
        InputError: Naming file, key and what it says: a ``type`` that is no registered class of its role, a file or
            a download that an argument names, a key that imports, or a structure that is none of a model. Allowed to
            name a file are only :class:`mmmim.PretrainedBackbone`, whose checkpoint is replaced before it is built,
            and target generators, unless they are built.
    """
    if not isinstance(model, Mapping):
        raise InputError(f'{source} holds no config of a model: mmmim.model is a {type(model).__name__}, not a dict.')
    left = _MOST_VALUES
    pending = [_Place(model, 'model', unbuilt=features_only)]
    while pending:
        place = pending.pop()
        node, path = place.node, place.path
        left -= 1
        below = len(node) if isinstance(node, Mapping | list | tuple | set | frozenset) else 0
        if below > left or path.count('.') > _MOST_LEVELS:
            raise InputError(f'{source} holds no config of a model: {path[:80]} is too large, too deep or never ends.')
        if isinstance(node, int) and abs(node) > _LARGEST:
            raise InputError(f'{source} holds no config of a model: {path} is {node:.6g}, no size of one.')
        if hasattr(node, 'shape'):
            raise InputError(f'{source} holds no config of a model: {path} is a {type(node).__name__}.')
        if isinstance(node, Mapping):
            unbuilt = _check_dict(place, source)
            wraps = node.get('type') in _BACKBONES
            for key, value in node.items():
                where = f'{path}.{printable(key, longest=100)}'
                inside = _Place(value, where, place.role, place.names_files, unbuilt and key not in _BUILT)
                inside.unbuilt |= features_only and bool(_BRANCH_PART.fullmatch(inside.path))
                inside.names_files |= key == 'target_generator' and not builds_targets
                inside.names_files |= wraps and not place.wrapped and key in ('checkpoint', 'weights')
                inside.wrapped = place.wrapped or (wraps and key in ('encoder', 'predictor'))
                if not (inside.names_files or inside.unbuilt):
                    _check_value(key, inside, source)
                if isinstance(value, Mapping | list | tuple) and place.role != 'WEIGHT_INITIALIZERS':
                    inside.role = _ROLES.get(key, 'MODELS')
                pending.append(inside)
        elif below:
            pending += [replace(place, node=value, path=f'{path}.{index}') for index, value in enumerate(node)]
    _check_structure(model, source, features_only)
    return dict(model)


@dataclass
class _Place:
    """A value of a config.

    Attributes:
        node: The value itself: a dict, a list or plain data.
        path: Dotted key of the value in the config.
        role: Name of the registry that it is built from.
        names_files: Whether it may name a file, because it is replaced before it is built or never built.
        unbuilt: Whether it may be of a class that is not registered, because it is never built.
        wrapped: Whether it belongs to the encoder or predictor of a PretrainedBackbone, in which nothing is replaced.
    """

    node: Any
    path: str
    role: str = 'MODELS'
    names_files: bool = False
    unbuilt: bool = False
    wrapped: bool = False


def _check_dict(place: _Place, source: Any) -> bool:
    """Check what a dict says of itself; whether what is in it is never built."""
    node, path, role = place.node, place.path, place.role
    for key in node:
        if not isinstance(key, str):
            raise InputError(f'{source}: {path} has the key {key!r}, which is no text: it holds no config of a model.')
        if key in _COMMANDS:
            raise InputError(f'{source}: {path}.{key} is no part of a model, and nothing that a file says is imported.')
    if '_scope_' in node and not (isinstance(node['_scope_'], str) and _registry('MODELS', node['_scope_'])):
        raise InputError(f'{source}: {path}._scope_={node["_scope_"]!r} is no package that registers models.')
    if 'type' not in node:
        return place.unbuilt
    kind = node['type']
    if not isinstance(kind, str):
        raise InputError(f'{source}: {path}.type is a {type(kind).__name__}, not the name of a class.')
    found = find_registered(kind, role)
    if found is None and place.unbuilt and _is_name_of_a_class(kind):
        return True
    if found is None or not inspect.isclass(found) or _is_module(kind):
        raise InputError(
            f'{source}: {path}.type={kind[:100]!r} is not registered as a class among {_ROLE_NAMES[role]}, and nothing '
            'that a file names is imported. If it is a class of a project of yours, import the project first '
            '(custom_imports of the config, or import it in Python) and check that the file comes from there.'
        )
    if _READERS.match(f'{found.__module__}.'):
        raise InputError(
            f'{source}: {path}.type={kind!r} reads files or downloads what its arguments name, which the config in a '
            'file may not ask for. Name such a model in a config of your own.'
        )
    if role == 'WEIGHT_INITIALIZERS' and any(each.__name__ == 'PretrainedInit' for each in found.__mro__):
        raise InputError(
            f'{source}: {path} would load another file, and a file never says what is read: the weights of a '
            'checkpoint are its own.'
        )
    return False


def _check_value(key: str, place: _Place, source: Any) -> None:
    value, path = place.node, place.path
    if key == 'type' or value is None or value is False or value == '':
        return
    named = _FILE_KEY.search(key) and (isinstance(value, str) or key.startswith('pretrained'))
    texts = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
    if named or any(isinstance(text, str) and _FILE_NAME.search(text) for text in texts):
        raise InputError(
            f'{source}: {path}={str(value)[:100]!r} names a file or a download, and a file never says what is read. '
            'Name it in a config of your own.'
        )


def _check_structure(model: Mapping, source: Any, features_only: bool) -> None:
    """That of a masked image model where there are branches; other models say nothing about theirs."""
    wrong = [key for key in _BUILT if not isinstance(model.get(key) or {}, Mapping)]
    if features_only and not model.get('backbone'):
        wrong = ['backbone']
    branches = model.get('branches') or {}
    if not isinstance(branches, Mapping):
        wrong.append('branches')
    else:
        for name, branch in branches.items():
            parts = ('target_generator', 'neck', 'head')
            if branch is not None and not (
                isinstance(branch, Mapping)
                and all(isinstance(branch.get(part), Mapping) for part in parts)
                and all('type' in branch[part] for part in parts)
            ):
                wrong.append(f'branches.{name}')
    if wrong:
        raise InputError(f'{source} holds no config of a model: model.{wrong[0]} is not what a checkpoint has there.')


def find_registered(name: str, role: str = 'MODELS') -> Any:
    """What a name of a config is registered as, without importing what it says.

    Unlike ``Registry.get`` of mmengine this never takes a name for a path of Python modules.

    Args:
        name: ``Class`` or ``package.Class``.
        role: Name of the registry in ``mmengine.registry``, or 'BATCH_AUGMENTS'.

    Returns:
        The registered object, or None.
    """
    scope, dot, bare = name.partition('.')
    if dot:
        registry = _registry(role, scope)
        return None if registry is None else _in_family(registry, bare)
    known = (_in_family(registry, name) for registry in _registries(role))
    return next((found for found in known if found is not None), None)


def _is_name_of_a_class(name: str) -> bool:
    """Whether a name can be one of a registry: not of Python, such as ``os.system``."""
    scope, dot, bare = name.partition('.')
    return '.' not in bare and (_registry('MODELS', scope) is not None if dot else not _is_module(name))


def _is_module(name: str) -> bool:
    """Whether a registry that lacks this name would import a module, which may lie in the current folder."""
    if '.' in name or _in_family(_registry('MODELS', 'mmmim'), name) is not None:
        return False
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # of modules that were made by hand
        return True


def _in_family(registry: Any, name: str) -> Any:
    """Of a registry or of those above it, as mmengine searches."""
    while registry is not None:
        if name in registry.module_dict:
            return registry.module_dict[name]
        registry = registry.parent
    return None


def _root(role: str) -> Any:
    if role == 'BATCH_AUGMENTS':  # known to mmpretrain only
        return importlib.import_module('mmpretrain.registry').BATCH_AUGMENTS
    return getattr(importlib.import_module('mmengine.registry'), role)


def _registry(role: str, scope: str) -> Any:
    """The registry of a package; None for packages that have registered none."""
    root = _root(role)
    if scope == root.scope:
        _fill(root)
        return root
    if scope in _PACKAGES:
        importlib.import_module(f'{scope}.registry')
    found = registry_of(root, scope)
    if found is not None and scope in _PACKAGES:
        _fill(root)
        found.import_from_location()
    return found


def _registries(role: str) -> Iterator[Any]:
    """Registries of a role, first those that are there anyway: packages take seconds to import."""
    root = _root(role)
    _fill(root)
    others = [child for scope, child in _descendants(root) if scope not in _PACKAGES]
    yield from (root, *others)
    for scope in _PACKAGES:
        if (found := _registry(role, scope)) is not None:
            yield found


def _descendants(registry: Any) -> Iterator[tuple[str, Any]]:
    for scope, child in registry.children.items():
        yield scope, child
        yield from _descendants(child)


def _fill(root: Any) -> None:
    """Layers of mmcv and initialisers of mmengine register themselves in mmengine's registries when imported."""
    if root.scope == 'mmengine':
        for module in ('mmengine.model', 'mmcv.cnn'):
            importlib.import_module(module)
    else:
        root.import_from_location()
