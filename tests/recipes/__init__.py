"""The papers' recipes as tables: a key of the resolved config, the value, and where the paper has it.

A module per method has a ``TABLE``, a text of sections::

    [mae/vitb16_800e: mae/vitb16]
    $optimizer: lr=1.5e-4 * 2048 / 256  # table 4: base lr 1.5e-4 for 256 images
    - branches.pixels.neck

A section is the recipe of a config. It starts from the sections after the colon; those whose name has no slash are
there for that alone. A line has options below a dotted key, or the types of a list of transforms; then, after two
blanks and a #, the source, without which it is that of the line before. In keys ``{a,b}`` makes two, and :data:`SHORT`
has the ``$``. Lines that begin with a blank go on; ``-`` takes away keys and what is below them. :data:`HOUSE` are the
keys that no paper is asked about.
"""

import re
from typing import Any, NamedTuple

#: What ``$`` stands for.
SHORT = {
    'images': 'train_dataloader.dataset.dataset',
    'pipeline': 'train_dataloader.dataset.dataset.pipeline',
    'collate': 'train_dataloader.collate_fn',
    'masking': 'train_dataloader.collate_fn.masking',
    'optimizer': 'optim_wrapper.optimizer',
    'rules': 'optim_wrapper.paramwise_cfg.rules',
    'schedule': 'param_scheduler.schedule',
    'momentum': 'default_hooks.target_ema.momentum',
    'branches': 'model.branches',
}

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
    r'.*\.tokenizer\.weights|.*\.data_prefix\.\w+|.*\.ann_file|(test|val|fit)_dataloader\.dataset\.(dataset\.)?data_root',
    r'model\.data_preprocessor\.(mean|std|bgr_to_rgb|to_rgb|pad_val|size|seg_pad_val|num_classes)|.*\.test_mode',
    # How files are read, and what a sentence about missing ones says.
    r'.*\.(section|with_label|split_file|images|pool\..*|convert_to_iter_based)',
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


def below(key: str, prefix: str) -> bool:
    """Whether a dotted key is a prefix or lies below it."""
    return key == prefix or key.startswith(f'{prefix}.')


def prefixes(text: str) -> list[str]:
    """The dotted keys that a short one stands for."""
    text = re.sub(r'\$(\w+)', lambda match: SHORT[match.group(1)], text)
    braces = re.search(r'\{(.*?)\}', text)
    return [text.replace(braces.group(), each) for each in braces.group(1).split(',')] if braces else [text]


def options(text: str) -> dict[str, Any]:
    """What the text of a line says, by dotted key."""
    prefix, values = re.fullmatch(r'(?:([\w.${},]+): )?(.*)', text).groups()
    if '=' in values:
        named = eval(f'dict({values})')
        return {key: value for each in prefixes(prefix or '') for key, value in flat(named, each).items()}
    types = values.split(', ')
    return {f'{each}.{i}.type': kind for each in prefixes(prefix) for i, kind in enumerate(types)}


def read(*tables: str) -> dict[str, Recipe]:
    """The recipes of texts, by the names of their configs."""
    found: dict[str, Recipe] = {}
    text = re.sub(r'\n +(#)?', lambda match: '  #' if match.group(1) else ' ', '\n'.join(tables))
    for line in text.splitlines():
        heading = re.match(r'\[(\S+?)(?:: (.*?))?\] ?', line)
        if heading:
            name, bases = heading.groups()
            recipe = found[name] = {k: v for base in (bases or '').split() for k, v in found[base].items()}
            source, line = '', line[heading.end() :]
        if line.startswith('- '):
            gone = [prefix for each in line[2:].split() for prefix in prefixes(each)]
            for key in [key for key in recipe if any(below(key, prefix) for prefix in gone)]:
                del recipe[key]
        elif line:
            values, _, own = line.partition('  # ')
            source = own or source
            recipe.update({key: Value(value, source) for key, value in options(values).items()})
    return {name: recipe for name, recipe in found.items() if '/' in name}


def resolved(cfg: Any) -> dict[str, Any]:
    """What a config says of its recipe, by dotted key."""
    values = flat(cfg.to_dict())
    return {key: value for key, value in values.items() if any(below(key, s) for s in SECTIONS)}


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
