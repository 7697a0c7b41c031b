"""What makes the site of the repository's own pages, which lie where they lie: nothing is copied by hand.

MkDocs wants all pages in one folder; here they keep their paths in the repository, so that their links mean on the site
what they mean in a clone. Beside them come what they link (pictures as they are, sources as pages with colours), the
notebooks, and the reference of the package, a page for each of its packages.
"""

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from nbconvert import MarkdownExporter

ROOT = Path(__file__).parents[2]
PAGES = (
    '*.md',
    'docs/en/*.md',
    'docs/notebooks/*.md',
    'configs/*/README.md',
    'configs/*/ablations/README.md',
    'projects/README.md',
    'projects/*/README.md',
    'projects/*/results/*.md',
)
NOTEBOOKS = 'docs/notebooks/*.ipynb'
#: What is shown as a page with colours, by its ending.
LANGUAGES = {'.py': 'python', '.yml': 'yaml', '.cff': 'yaml', '.sh': 'bash', '.txt': 'text', '.toml': 'toml'}
#: Before a page of long lines: nothing beside it.
WIDE = '---\nhide: [navigation, toc]\n---\n\n'
FENCE = re.compile(r'(^ *```.*?^ *```)', re.MULTILINE | re.DOTALL)
LINK = re.compile(r'(?<=\]\()([^)\s#]+)(?=[)#])')
SOURCE = re.compile(r'src="([^":]+)"')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the packages to the navigation."""
    (section,) = (part['Reference'] for part in config.nav if 'Reference' in part)
    section.extend({folder.name: f'api/mmmim.{folder.name}.md'} for folder in packages())
    return config


@event_priority(100)  # before other plugins look at what pages there are
def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Adds the pages of the repository, and what they need."""
    pages = {path.relative_to(ROOT).as_posix(): path.read_text() for glob in PAGES for path in sorted(ROOT.glob(glob))}
    there: set[str] = set()
    for path in sorted(ROOT.glob(NOTEBOOKS)):
        uri = path.relative_to(ROOT).as_posix()
        pages[f'{uri}.md'], pictures = notebook_page(path)
        for name, content in pictures.items():
            there.add(place := posixpath.join(posixpath.dirname(uri), name))
            add(files, config, place, content)
        add(files, config, uri, path.read_bytes())
    pages.update(reference())
    there.update(pages)
    linked: dict[str, Path] = {}
    for uri, text in pages.items():
        add(files, config, uri, rewritten(uri, text, there, linked))
    for uri, path in linked.items():
        if path.suffix in LANGUAGES:
            text = f'# {uri}\n\n```{LANGUAGES[path.suffix]}\n{path.read_text()}\n```\n'
            add(files, config, source_page(uri), WIDE + text)
        else:
            add(files, config, uri, path.read_bytes())
    return files


def add(files: Files, config: MkDocsConfig, uri: str, content: str | bytes) -> None:
    """Add a file of the site, or take the place of one."""
    if (known := files.get_file_from_path(uri)) is not None:
        files.remove(known)
    files.append(File.generated(config, uri, content=content))


def source_page(uri: str) -> str:
    """The page that shows a source; that of a README would be the folder's."""
    return f'{uri}.md'


def rewritten(uri: str, text: str, there: set[str], linked: dict[str, Path]) -> str:
    """A page whose links to folders and sources lead to pages; ``linked`` takes what is not ``there`` yet."""

    def target(link: str) -> str:
        if re.match(r'\w+:', link):
            return link
        path = posixpath.normpath(posixpath.join(posixpath.dirname(uri), link))
        if path in there:
            return link
        if f'{path}/README.md' in there:
            return posixpath.join(link, 'README.md')
        if f'{path}.md' in there and f'{path}.md' != uri:  # the page of a notebook links the file
            return f'{link}.md'
        if not (ROOT / path).is_file():
            raise PluginError(f'{uri} links {link}, which is neither a page nor a file.')
        linked[path] = ROOT / path
        return source_page(link) if linked[path].suffix in LANGUAGES else link

    parts = FENCE.split(text)
    for i in range(0, len(parts), 2):
        parts[i] = LINK.sub(lambda found: target(found[1]), parts[i])
        parts[i] = SOURCE.sub(lambda found: f'src="{target(found[1])}"', parts[i])
    return ''.join(parts)


def notebook_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page, and its pictures by name."""
    exporter = MarkdownExporter()
    body, resources = exporter.from_notebook_node(
        nbformat.read(path, as_version=4), resources={'output_files_dir': path.stem, 'unique_key': path.stem}
    )
    heading, _, rest = body.partition('\n')
    return f'{heading}\n\n[The notebook]({path.name}) as a file.\n{rest}', resources['outputs']


def reference() -> dict[str, str]:
    """Pages of the reference: what `mmmim` itself offers, what is registered, and a page for each package."""
    pages = {}
    listed = []
    for folder in packages():
        name = f'mmmim.{folder.name}'
        modules = list(public_modules(folder))
        summary = first_line(ast.parse((folder / '__init__.py').read_text()))
        listed.append(f'| [`{name}`]({name}.md) | {summary} |')
        blocks = [f'::: {module}\n    options:\n      heading_level: 2\n' for module in modules]
        pages[f'api/{name}.md'] = '\n'.join([f'# {name}\n\n{summary}\n', *blocks])
    pages['api/README.md'] = '\n'.join(
        [
            '# Reference\n\nMade of the docstrings. What `import mmmim` offers, what configs name by `type` in',
            '[the registries](registries.md), and everything else by package.\n\n## mmmim\n\n| name | |\n|---|---|',
            *(f'| [`mmmim.{path.rpartition(".")[2]}`][{path}] | {line} |' for path, line in public_names()),
            '\n## Packages\n\n| package | |\n|---|---|',
            *listed,
        ]
    )
    pages['api/registries.md'] = registries()
    return pages


def packages() -> list[Path]:
    """The folders of mmmim's packages."""
    return sorted(path.parent for path in (ROOT / 'mmmim').glob('*/__init__.py'))


def public_modules(folder: Path) -> Iterator[str]:
    """Modules of a package that have anything to tell, by their dotted names."""
    for path in sorted(folder.rglob('*.py')):
        if not path.name.startswith('_') and defines(path):
            yield '.'.join(path.relative_to(ROOT).with_suffix('').parts)


def defines(path: Path) -> bool:
    """Whether a module has a public class or function of its own."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    return any(isinstance(node, kinds) and node.name[0] != '_' for node in ast.parse(path.read_text()).body)


def public_names() -> Iterator[tuple[str, str]]:
    """Where the names of `mmmim` are defined, which the table in its ``__init__`` knows, and what they are."""
    (table,) = (
        ast.literal_eval(node.value)
        for node in ast.parse((ROOT / 'mmmim/__init__.py').read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '_LAZY'
    )
    for name, package in sorted(table.items()):
        folder = ROOT.joinpath(*package.split('.'))
        for path in sorted(folder.rglob('*.py')) if folder.is_dir() else [folder.with_suffix('.py')]:
            for node in ast.parse(path.read_text()).body:
                if getattr(node, 'name', None) == name:
                    module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
                    yield f'{module}.{name}', first_line(node)


def first_line(node: ast.AST) -> str:
    """What a docstring begins with, for a cell of a table."""
    line = (ast.get_docstring(node) or '').split('\n')[0].replace('|', '\\|')
    return re.sub(r':\w+:`~?([^`]+)`', r'`\1`', line)


def registries() -> str:
    """What configs name, by registry, with links into the reference."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted((ROOT / 'mmmim').rglob('*.py')):
        module = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
        for node in ast.parse(path.read_text()).body:
            for decorator in getattr(node, 'decorator_list', ()):
                if match := re.match(r'([A-Z_]+)\.register_module\(', ast.unparse(decorator)):
                    found.setdefault(match[1], {})[f'[`mmmim.{node.name}`][{module}.{node.name}]'] = first_line(node)
    tables = [
        f'## {name}\n\n| type | |\n|---|---|\n'
        + '\n'.join(f'| {link} | {line} |' for link, line in sorted(rows.items()))
        for name, rows in sorted(found.items())
    ]
    head = (
        '# Registries\n\nWhat a config names by `type`, with the package before it (`mmmim.ViT`). Every registry is a '
        'child of that of mmengine with the same name; `SCHEDULES` and `PROBES` are of mmmim alone.\n'
    )
    module = '::: mmmim.registry\n    options:\n      heading_level: 2\n'
    return '\n\n'.join([head, *tables, module])
