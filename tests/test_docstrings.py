"""Docstrings read on their own: whole sentences, arguments that are there, references that lead somewhere.

Read as text and syntax trees: nothing of the package is imported.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

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


def source(parts: Sequence[str]) -> Path | None:
    """The file of a module or package of mmmim."""
    path = ROOT.joinpath(*parts)
    return next((file for file in (path.with_suffix('.py'), path / '__init__.py') if file.is_file()), None)


def assigned(target: ast.expr) -> Iterator[str]:
    """Yield the names and the attributes that an assignment sets."""
    for node in ast.walk(target):
        if isinstance(node, ast.Name | ast.Attribute):
            yield node.id if isinstance(node, ast.Name) else node.attr


def members(body: Sequence[ast.stmt]) -> dict[str, ast.stmt]:
    """What a module, a class or its methods define, import or assign, by name."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.ClassDef | Function):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found.update({name: node for target in node.targets for name in assigned(target)})
        elif isinstance(node, ast.AnnAssign):
            found.update(dict.fromkeys(assigned(node.target), node))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found.update({(name.asname or name.name).split('.')[0]: node for name in node.names})
        elif isinstance(node, ast.If | ast.Try | ast.With):
            found |= members(node.body)
    return found


@cache
def registered() -> frozenset[str]:
    """What configs call ``mmmim.NAME``: classes and functions of a registry, and the lazy names of the package."""
    decorated = {
        node.name
        for path in SOURCES
        for node in tree(path).body
        if isinstance(node, ast.ClassDef | Function)
        and any('register' in ast.unparse(decorator) for decorator in node.decorator_list)
    }
    lazy = members(tree(ROOT / 'mmmim/__init__.py').body)['_LAZY']
    assert isinstance(lazy, ast.Assign)
    return frozenset(decorated | set(ast.literal_eval(lazy.value)))


def leads_on(path: Path, node: ast.stmt, parts: Sequence[str]) -> bool:
    """Whether a path of names leads from a statement of a file to something."""
    if isinstance(node, ast.ImportFrom):
        package = path.relative_to(ROOT).parent.parts if node.level else ()
        base = [*package[: len(package) + 1 - node.level], *(node.module or '').split('.')]
        name = next(name.name for name in node.names if (name.asname or name.name) == parts[0])
        if base[0] != 'mmmim':  # what another library's class has is not known
            return not parts[1:]
        return leads_somewhere([part for part in base if part] + [name, *parts[1:]])
    if not parts[1:] or not isinstance(node, ast.ClassDef):
        return not parts[1:] or not isinstance(node, Function)
    within = members([statement for child in node.body if isinstance(child, Function) for statement in child.body])
    within |= members(node.body)
    bases = [ast.unparse(base).split('[')[0].split('.') for base in node.bases]
    around = members(tree(path).body)
    return (parts[1] in within and leads_on(path, within[parts[1]], parts[1:])) or any(
        base[0] in around and leads_on(path, around[base[0]], [*base, *parts[1:]]) for base in bases
    )


def leads_somewhere(parts: Sequence[str]) -> bool:
    """Whether a dotted path from ``mmmim`` on names a module, or something that one defines."""
    for length in range(len(parts), 0, -1):
        path = source(parts[:length])
        if path is not None:
            rest = parts[length:]
            around = members(tree(path).body)
            if not rest or (rest[0] in around and leads_on(path, around[rest[0]], rest)):
                return True
            if length > 1 or rest[0] not in registered():
                return False
            return len(rest) == 1 or any(
                leads_on(path, node, rest)
                for path in SOURCES
                for node in tree(path).body
                if isinstance(node, ast.ClassDef) and node.name == rest[0]
            )
    return False


def known_here(path: Path, name: str, reference: str) -> bool:
    """Whether a reference in the docstring of ``name`` leads to its class, its file or a part of mmmim."""
    parts = reference.split('.')
    if parts[0] == 'mmmim':
        return leads_somewhere(parts)
    around = members(tree(path).body)
    if parts[0] in around:
        return leads_on(path, around[parts[0]], parts)
    outer = name.split('.')[0]
    return parts[0] in registered() or (outer in around and leads_on(path, around[outer], [outer, *parts]))


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
