"""Make the project of a method of one's own: modules, a config that trains on FashionScenes, a test and a page."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmmim.utils import InputError

from .parser import ToolParser
from .program import user_errors

#: The project that a new one is a copy of, in the resources of mmmim, and what is called otherwise in the copy.
TEMPLATE = 'projects/example_project'
_PACKAGE, _MODULE, _MASKING, _HEAD = 'projects.example_project', 'example_project', 'RowMasking', 'CosineHead'
#: More letters than this make lines of the copy longer than 120.
_LONGEST = 32

_PAGE = """\
# {title}

> The paper: title, authors, venue, link.

## In short

What the method does, in own words. What is here now is a working example to start from: MAE on FashionScenes with whole
rows of patches hidden, and a cosine distance instead of the squared error.

| file | what it is |
|---|---|
| [masking.py](masking.py) | `{camel}Masking`, a masking strategy |
| [head.py](head.py) | `{camel}Head`, a head |
| [configs/small.py](configs/small.py) | the training: takes MAE's `small.py` and names the two classes |
| [{test}]({test}) | their tests |

Other parts (backbone, target generator, neck, schedule, hook) are called as `projects/README.md` of mmmim says. Remove
what the method does not need.

## How to use it?

```shell
{steps}
```

## Results

Not run here.

## Is it the same method?

What was compared with the paper or its code, and what is our reading of it.
"""


class Names(NamedTuple):
    """What a method is called: of classes (``MyMethod``) and of the folder and modules (``my_method``)."""

    camel: str
    snake: str


def method_names(name: str) -> Names:
    """Names in Python of a method.

    Args:
        name: Words, divided by spaces, ``-``, ``_`` or capital letters: 'my method', 'I-JEPA', 'PiLaMIM', 'data2vec'.

    Raises:
        InputError: It cannot be made a name in Python, or is too long.
    """
    words = [word for word in re.split(r'[\s_-]+', name) if word]
    if not re.fullmatch(r'[A-Za-z][A-Za-z0-9 _-]*', name) or len(name) > _LONGEST:
        raise InputError(
            f'{name[:60]!r} is no name of a method: use up to {_LONGEST} letters, digits, "-" and "_", the first a '
            'letter, such as my_method or MyMethod.'
        )
    parts = [part for word in words for part in re.split(r'(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])', word)]
    return Names(''.join(word[0].upper() + word[1:] for word in words), '_'.join(parts).lower())


def write_project(name: str, folder: str | None = None) -> tuple[Path, list[str]]:
    """Write a project.

    Args:
        name: Name of the method, see :func:`method_names`.
        folder: Folder in which the project gets a folder of its own; None for ``projects`` in the root of the
            repository, and else the current one.

    Returns:
        The folder of the project, and the commands to go on with.

    Raises:
        InputError: The name is none or taken, or something lies there already.
    """
    from mmmim.config.resources import repository, resources

    names, clone = method_names(name), repository()
    if folder is None:
        folder = 'projects' if clone is not None and Path.cwd() == clone.resolve() else '.'
    inside = clone is not None and Path(folder).resolve() == (clone / 'projects').resolve()
    target = Path(folder) / names.snake
    _refuse_taken(names, inside)
    source = resources() / TEMPLATE
    files = {path.relative_to(source): path.read_text(encoding='utf-8') for path in sorted(source.rglob('*.py'))}
    test = f'test_{names.snake}.py'
    steps = _steps(names, folder, inside)
    page = _PAGE.format(title=name.strip(), camel=names.camel, test=test, steps='\n'.join(steps))
    try:
        target.mkdir(parents=True)
        for path, text in files.items():
            file = target / str(path).replace(_MODULE, names.snake)
            file.parent.mkdir(exist_ok=True)
            file.write_text(_renamed(text, names, inside), encoding='utf-8')
        (target / 'README.md').write_text(page, encoding='utf-8')
    except FileExistsError:
        raise InputError(
            f'{target} exists already, and nothing is overwritten: choose another name or folder.'
        ) from None
    except OSError as error:
        raise InputError(f'{target} cannot be written: {error.strerror}.') from None
    return target, steps


def _renamed(text: str, names: Names, inside: bool) -> str:
    """A file of the template with the names of a new project."""
    package = f'projects.{names.snake}' if inside else names.snake
    for old, new in (
        (_PACKAGE, package),
        (_MODULE, names.snake),
        (_MASKING, f'{names.camel}Masking'),
        (_HEAD, f'{names.camel}Head'),
    ):
        text = text.replace(old, new)
    return text


def _steps(names: Names, folder: str, inside: bool) -> list[str]:
    """Commands that test and train a new project; outside of the repository Python finds it from its parent folder."""
    path = f'projects/{names.snake}' if inside else names.snake
    first = [] if inside or folder == '.' else [f'cd {folder}']
    train = f'mmmim train {path}/configs/small.py --work-dir work_dirs/{names.snake}'
    return [*first, f'pytest {path}', train]


def _refuse_taken(names: Names, inside: bool) -> None:
    """Refuse names of which there is something else.

    Raises:
        InputError: Naming it.
    """
    from importlib.util import find_spec

    if keyword.iskeyword(names.snake) or (not inside and find_spec(names.snake) is not None):
        raise InputError(f'{names.snake} is a name that Python or an installed package has: choose another one.')
    from mmmim.registry import MASKINGS, MODELS

    for registry, kind in ((MASKINGS, f'{names.camel}Masking'), (MODELS, f'{names.camel}Head')):
        if registry.get(f'mmmim.{kind}') is not None:
            raise InputError(f'mmmim has a class {kind} already: choose another name than {names.camel}.')


def build_parser() -> ToolParser:
    """The command line."""
    parser = ToolParser(description=__doc__)
    parser.add_argument('name', metavar='NAME', help="name of the method: my_method, MyMethod, 'my method'")
    parser.add_argument(
        'folder',
        metavar='FOLDER',
        nargs='?',
        help='where its folder is made (default: projects/ in the root of the repository, else the current folder)',
    )
    return parser


@user_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Write the project and say how to go on.

    Args:
        argv: Words of the command line; None for those of the program.
    """
    args = build_parser().parse_args(argv)
    target, steps = write_project(args.name, args.folder)
    print(f'Made {target}. To go on:')
    for step in steps:
        print(f'  {step}')
