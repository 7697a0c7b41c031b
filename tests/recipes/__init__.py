"""The papers' recipes as tables: a key of the resolved config, the value, and where the paper has it.

A module per method has ``RECIPES``: name of a config to its :func:`recipe`. :data:`HOUSE` are the keys that no paper is
asked about.
"""

import re
from typing import Any, NamedTuple

#: In a recipe: a key of the recipe that it is based on and does not have.
GONE = object()

#: The parts of a config that are the recipe.
SECTIONS = (
    'global_batch_size',
    'model',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'test_cfg',
    'train_dataloader.collate_fn',
    'train_dataloader.dataset',
    'fit_dataloader.dataset',
    'val_dataloader.dataset',
    'test_dataloader.dataset',
    'test_evaluator',
    'default_hooks.target_ema',
    'default_hooks.similarity',
)

#: Keys of those parts that are the toolbox's own, and why.
HOUSE = {
    # The names of the classes that every recipe goes through.
    r'model\.type|model\.data_preprocessor\.type|optim_wrapper\.(type|constructor)|train_cfg\.type|test_cfg\.type',
    r'param_scheduler\.(\w+\.)?(type|by_epoch)|default_hooks\.\w+\.type|default_hooks\.similarity\.name',
    r'train_dataloader\.dataset\.type|train_dataloader\.collate_fn\.type',
    # How a step is divided, which does not change it.
    r'model\.micro_batch_size|.*\.chunk_positions|optim_wrapper\.optimizer\.fused',
    # Where files lie, and how an encoder gets into a protocol.
    r'.*\.tokenizer\.weights|.*\.data_prefix\.\w+|.*\.ann_file|(test|val|fit)_dataloader\.dataset\.data_root',
    r'model\.data_preprocessor\.(mean|std|bgr_to_rgb|pad_val|size|seg_pad_val)|.*\.test_mode',
    r"model\.backbone\.(checkpoint|encoder)|test_cfg\.(cache\.\w+|seed)|train_cfg\.val_interval|.*\.prefix",
    # Options of heads of mmsegmentation that follow from the number of classes and the encoder.
    r'model\.\w+\.(in_channels|in_index|embed_dim|num_features|align_corners|concat_input|norm_cfg\.\w+)',
    r'.*\.ignore_index|model\.train_cfg|.*\.resize_type|.*\.backend|.*\.iou_metrics|test_evaluator\.(\d+\.)?type',
}  # fmt: skip
_HOUSE = re.compile('|'.join(f'(?:{pattern})' for pattern in HOUSE))


class Value(NamedTuple):
    """What a key must be, and where that stands."""

    value: Any
    source: str


Recipe = dict[str, Value]


def flat(node: Any, prefix: str = '') -> dict[str, Any]:
    """Values of nested dicts and lists of dicts, by their dotted key."""
    if isinstance(node, dict) and node:
        items = list(node.items())
    elif isinstance(node, list) and any(isinstance(each, dict) for each in node):
        items = list(enumerate(node))
    else:
        return {prefix: node}
    return {
        key: value for name, each in items for key, value in flat(each, f'{prefix}.{name}'.removeprefix('.')).items()
    }


def row(source: str, prefix: str = '', **values: Any) -> Recipe:
    """Keys below a dotted ``prefix`` with their values, which a paper has in one place."""
    return {key: Value(value, source) for key, value in flat(values, prefix).items()}


def recipe(*rows: Recipe, base: Recipe | None = None) -> Recipe:
    """Rows together, on those of another recipe; a later row wins."""
    together = dict(base or {})
    for each in rows:
        together.update(each)
    return {key: value for key, value in together.items() if value.value is not GONE}


def steps(source: str, pipeline: str, *types: str) -> Recipe:
    """The transforms of a pipeline, in their order."""
    return recipe(*(row(source, f'{pipeline}.{i}', type=kind) for i, kind in enumerate(types)))


def without(base: Recipe, *prefixes: str) -> Recipe:
    """A recipe without the keys at or below some."""
    return {k: v for k, v in base.items() if not any(k == p or k.startswith(f'{p}.') for p in prefixes)}


def resolved(cfg: Any) -> dict[str, Any]:
    """What a config says of its recipe, by dotted key."""
    values = flat(cfg.to_dict())
    return {key: value for key, value in values.items() if any(key == s or key.startswith(f'{s}.') for s in SECTIONS)}


def is_house(key: str) -> bool:
    """Whether no paper is asked about a key."""
    return _HOUSE.fullmatch(key) is not None


def complaints(config: dict[str, Any], table: Recipe) -> list[str]:
    """Where a resolved config and its recipe differ, a line each."""
    found = []
    for key, (value, source) in table.items():
        if key not in config:
            found.append(f'{key} is not set; {source}: {value!r}')
        elif not same(config[key], value):
            found.append(f'{key} is {config[key]!r}; {source}: {value!r}')
    return found + [
        f'{key} is {value!r}, and the recipe does not have it'
        for key, value in config.items()
        if key not in table and not is_house(key)
    ]


def same(value: Any, expected: Any) -> bool:
    """Equal, numbers up to the rounding of a quotient, lists like tuples."""
    if isinstance(expected, list | tuple):
        if not isinstance(value, list | tuple):
            return False
        return len(value) == len(expected) and all(same(*pair) for pair in zip(value, expected, strict=True))
    if isinstance(value, bool) or isinstance(expected, bool):
        return value is expected
    if isinstance(expected, float) and isinstance(value, int | float):
        return abs(value - expected) <= 1e-12 * abs(expected)
    return value == expected and type(value) is type(expected)
