"""Docstrings read on their own: whole sentences, arguments that are there, references that lead somewhere."""

import ast
import contextlib
import inspect
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.registry import Registry

import mmmim.registry
from tests.paths import ROOT

# An editor shows the line of one argument alone: one that begins like this needs another line to be understood.
FRAGMENT = re.compile(
    r'(Of|As|Its|Their|Ditto|The same|Same|Whose|Likewise|From|To|With|In|Per|Also|Or|And|Else|For|See|Which|That|Those'
    r'|They|Them|Above|Below|After|Before|On|By)\b'
)
FEWEST_WORDS = 3
ENTRY = re.compile(r'(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?:(?: (?P<text>.*))?$')
HEADING = re.compile(r'(Args|Attributes|Returns|Raises|Yields|Note|Notes|Example|Examples|Warns|Example config):$')
REFERENCE = re.compile(
    r':(?:class|func|meth|mod|attr|data|exc|obj):`[~!]?(?P<role>[\w.]+)`'
    r'|(?<![\w:`])`{1,2}(?P<code>mmmim(?:\.\w+)+)(?:\(\))?`'
)
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function
SOURCES = sorted((ROOT / 'mmmim').rglob('*.py'))
# Without CHANGELOG.md, which tells of names that are gone.
PAGES = sorted(
    [
        *(page for folder in ('docs', 'configs') for page in (ROOT / folder).rglob('*.md')),
        ROOT / 'README.md',
        ROOT / 'CONTRIBUTING.md',
    ]
)


@cache
def tree(path: Path) -> ast.Module:
    """The syntax tree of a file, read once."""
    return ast.parse(path.read_text())


def documented(node: Documented, name: str = '') -> Iterator[tuple[str, Documented, str]]:
    """Yield the dotted name, node and docstring of everything in a file that has one."""
    text = ast.get_docstring(node)
    if text is not None:
        yield name, node, text
    for child in node.body:
        if isinstance(child, ast.ClassDef | Function):
            yield from documented(child, f'{name}.{child.name}'.lstrip('.'))


def entries(docstring: str, heading: str) -> dict[str, str]:
    """The text of every name under a heading of a docstring, continuation lines included."""
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in docstring.splitlines():
        indent = len(line) - len(line.lstrip())
        if HEADING.match(line):
            inside = line == f'{heading}:'
        elif inside and line and not indent:
            inside = False
        elif inside and indent == 4:
            match = ENTRY.match(line.strip())
            names = match['names'].split(', ') if match else []
            found.update(dict.fromkeys(names, (match['text'] or '') if match else ''))
        elif inside and line:
            found.update({name: f'{found[name]} {line.strip()}'.strip() for name in names})
    return found


def is_fragment(text: str) -> bool:
    """Whether a line says too little by itself."""
    return bool(FRAGMENT.match(text)) or len(text.split()) < FEWEST_WORDS


def parameters(node: Documented) -> set[str] | None:
    """The names that a caller of a function or class may pass; None where another class decides them."""
    if isinstance(node, ast.ClassDef):
        inits = [child for child in node.body if isinstance(child, Function) and child.name == '__init__']
        if not inits:
            return None
        node = inits[0]
    assert isinstance(node, Function)
    spec = node.args
    names = [*spec.posonlyargs, *spec.args, *spec.kwonlyargs, *filter(None, [spec.vararg, spec.kwarg])]
    return {name.arg for name in names} - {'self', 'cls'}


def faults(node: Documented, docstring: str) -> Iterator[str]:
    """Yield what is wrong with one docstring."""
    if len(docstring.split()) < FEWEST_WORDS:
        yield f'says too little: {docstring!r}'
    for heading in ('Args', 'Attributes'):
        for name, text in entries(docstring, heading).items():
            if is_fragment(text):
                yield f'does not stand alone: {name}: {text}'
    described = {name.lstrip('*') for name in entries(docstring, 'Args')}
    known = None if isinstance(node, ast.Module) or not described else parameters(node)
    if known is not None:
        yield from (f'has no line for its argument {name}' for name in sorted(known - described) if name[0] != '_')
        yield from (f'describes {name}, which is no argument' for name in sorted(described - known))


def test_docstrings_stand_alone():
    found = [
        f'{path.relative_to(ROOT)}: {name or "(module)"} {fault}'
        for path in SOURCES
        for name, node, docstring in documented(tree(path))
        for fault in faults(node, docstring)
    ]
    assert not found, '\n'.join(['', *found])


@pytest.mark.parametrize(
    ('docstring', 'fault'),
    [
        ('D.', 'says too little'),
        ('Add two.\n\nArgs:\n    one: Of the weights.\n    two: The second summand.', 'does not stand alone: one'),
        (
            'Add two.\n\nArgs:\n    one: The first summand.\n    two: As\n        before.',
            'does not stand alone: two: As',
        ),
        ('Add two.\n\nArgs:\n    one: The first summand.', 'no line for its argument two'),
        ('Add two.\n\nArgs:\n    one, two: The two summands.\n    three: Not a summand.', 'describes three'),
    ],
)
def test_finds_faults(docstring, fault):
    function = ast.parse('def add(one, two): ...').body[0]
    assert [fault in line for line in faults(function, docstring)] == [True]
    assert not list(faults(function, 'Add two.\n\nArgs:\n    one, *two: The two summands.\n\nReturns:\n    Sum.'))


def references(text: str) -> list[str]:
    """Names that a text refers to by a role, and those of mmmim that it sets as code."""
    return [match['role'] or match['code'] for match in REFERENCE.finditer(text)]


def module_of(path: Path) -> ModuleType:
    """The module of a file."""
    return import_module('.'.join(path.relative_to(ROOT).with_suffix('').parts).removesuffix('.__init__'))


def has(node: object, name: str) -> bool:
    """Whether a module or class defines a name, or methods of a class of mmmim assign it."""
    if hasattr(node, name):
        return True
    classes = [base for base in getattr(node, '__mro__', ()) if base.__module__.startswith('mmmim')]
    return any(re.search(rf'(self\.|^    ){name}(: |\b.* = )', inspect.getsource(base), re.M) for base in classes)


def leads_on(node: object, parts: Sequence[str]) -> bool:
    """Whether a path of names leads from an object to something."""
    for part in parts:
        if not has(node, part):
            return False
        node = getattr(node, part, None)
    return True


@cache
def registered() -> dict[str, object]:
    """What configs call ``mmmim.NAME``."""
    for path in SOURCES:
        if 'register_module' in path.read_text():
            module_of(path)
    registries = [each for each in vars(mmmim.registry).values() if isinstance(each, Registry)]
    return {name: kind for registry in registries for name, kind in registry.module_dict.items()}


def leads_somewhere(parts: Sequence[str]) -> bool:
    """Whether a dotted path from ``mmmim`` on names a module, or something that one defines."""
    for length in range(len(parts), 0, -1):
        with contextlib.suppress(ImportError):
            if leads_on(import_module('.'.join(parts[:length])), parts[length:]):
                return True
    return parts[1] in registered() and leads_on(registered()[parts[1]], parts[2:])


def known_here(path: Path, name: str, reference: str) -> bool:
    """Whether a reference in the docstring of ``name`` leads to its class, its file or a part of mmmim."""
    parts = reference.split('.')
    if parts[0] == 'mmmim':
        return leads_somewhere(parts)
    module = module_of(path)
    around = [module, getattr(module, name.split('.')[0], None)]
    return any(leads_on(node, parts) for node in around) or leads_somewhere(['mmmim', *parts])


def test_references_of_docstrings_lead_somewhere():
    found = [
        f'{path.relative_to(ROOT)}: {name or "(module)"} refers to {reference}'
        for path in SOURCES
        for name, _, docstring in documented(tree(path))
        for reference in references(docstring)
        if not known_here(path, name, reference)
    ]
    assert not found, '\n'.join(['', *found])


def test_references_of_pages_lead_somewhere():
    found = [
        f'{page.relative_to(ROOT)} refers to {reference}'
        for page in PAGES
        for reference in references(page.read_text())
        if not leads_somewhere(reference.split('.'))
    ]
    assert not found, '\n'.join(['', *found])


@pytest.mark.parametrize(
    ('reference', 'known'),
    [
        ('mmmim.features.Features.pool', True),
        ('mmmim.ViT.get_layer_depth', True),
        ('mmmim.truncated_cosine', True),
        ('mmmim.utils.errors', True),
        ('mmmim.ViT.pool', False),
        ('mmmim.features.Pictures', False),
        ('mmmim.utils.pictures', False),
        ('mmmim.pictures', False),
    ],
)
def test_finds_references(reference, known):
    assert references(f'See :func:`~{reference}` or `{reference}`.') == [reference, reference]
    assert leads_somewhere(reference.split('.')) is known
