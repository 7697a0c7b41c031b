"""Tables of papers as text for a terminal, which is a script for a shell as well."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from itertools import groupby

from mmmim.config.papers import Cell, Paper, Row, read_papers
from mmmim.config.resources import repository, resources
from mmmim.utils import InputError

WIDTH = 118
HEAD = (
    'What papers report, and the commands that would make it: of each row the checkpoint, then its scores. Nothing of '
    'this was run here. With 8 GPUs, tools/dist_train.sh configs/NAME.py 8 takes the place of "mmmim train NAME", and '
    'tools/dist_test.sh that of "mmmim test". Protocols and their options: docs/en/evaluation.md.'
)


def paper_lines(pattern: str) -> list[str]:
    """The tables of the papers, or those and the rows that a pattern names.

    Args:
        pattern: '*' for all; else a part, or a shell pattern, of the name of a paper and a table ("CAPI table 1"), or
            of a config of a row or of its scores.

    Raises:
        InputError: Nothing has such a name.
    """
    papers = read_papers(resources())
    found = [*chosen(papers, pattern)]
    if not found:
        names = [f'{paper.name} {table.name}' for paper in papers for table in paper.tables]
        names += [paper.name for paper in papers]
        close = difflib.get_close_matches(pattern, names, n=2, cutoff=0.5)
        hint = f'did you mean {" or ".join(close)}?' if close else f'there are {", ".join(p.name for p in papers)}.'
        raise InputError(f'No table, row or command of the papers has a name like {pattern!r}: {hint}')
    tools = 'tools' if repository() is not None else str(resources() / 'tools')
    lines = [*_comment(HEAD)]
    for paper in found:
        name = '' if paper.title.startswith(paper.name) else f'{paper.name}: '
        lines += ['', *_comment(f'{name}{paper.title} ({paper.source})', '#### ')]
        for table in paper.tables:
            note = f' ({table.note})' if table.note else ''
            title = f'{paper.name}, {table.name}: {table.caption}{note}'
            lines += ['', *_comment(title, '### ')]
            for row in table.rows:
                lines += ['', *_row_lines(row, tools)]
    return lines


def chosen(papers: Sequence[Paper], pattern: str) -> Iterator[Paper]:
    """The papers with the tables and rows that a pattern names, see :func:`paper_lines`."""
    exact = [
        (paper.name, table.name)
        for paper in papers
        for table in paper.tables
        if pattern.casefold() in (paper.name.casefold(), f'{paper.name} {table.name}'.casefold())
    ]
    for paper in papers:
        tables = []
        for table in paper.tables:
            named = f'{paper.name} {table.name}'
            if exact:
                rows = table.rows if (paper.name, table.name) in exact else ()
            elif _matches(pattern, named):
                rows = table.rows
            else:
                rows = tuple(row for row in table.rows if any(_matches(pattern, name) for name in _names(row)))
            if rows:
                tables.append(replace(table, rows=rows))
        if tables:
            yield replace(paper, tables=tuple(tables))


def _names(row: Row) -> list[str]:
    configs = [row.config, row.convert, *(cell.score.config for cell in row.cells)]
    return [name for name in configs if name is not None]


def _matches(pattern: str, name: str) -> bool:
    pattern, name = pattern.casefold(), name.casefold()
    # "table 1" is none of "table 10", but "table 11(a)" is one of "table 11".
    part = re.search(re.escape(pattern) + r'(?!\d)' if pattern[-1:].isdigit() else re.escape(pattern), name)
    return part is not None or fnmatch(name, pattern)


def _row_lines(row: Row, tools: str) -> Iterator[str]:
    note = f' ({row.note})' if row.note else ''
    if row.folder is None:
        numbers = [f'{c.score.dataset} {c.score.protocol} {c}' for c in row.cells if c.value is not None]
        yield from _comment(f'{row.label}{note}: no recipe here', '## ')
        yield from _comment(f'{", ".join(numbers)} (reported, not run here)')
        return
    yield from _comment(f'{row.label}{note}', '## ')
    for command in row.commands():
        yield from _fold(command)
    # Scores of one command stand above it together.
    for commands, cells in groupby(row.cells, key=lambda cell: _commands(cell, row, tools)):
        for cell in cells:
            yield from _comment(_reported(cell))
        for command in commands:
            yield from _fold(command)


def _commands(cell: Cell, row: Row, tools: str) -> list[str]:
    # Scores that one run prints share its folder.
    name = next(other.score.name for other in row.cells if _alike(other) == _alike(cell))
    return cell.score.commands(row.weights, tools, f'$DIR/{name}')


def _alike(cell: Cell) -> tuple[object, ...]:
    score = cell.score
    return (score.maker, score.target, score.data, score.options, score.each, score.words)


def _reported(cell: Cell) -> str:
    score = cell.score
    metric = {'Top 1 Accuracy': 'top-1'}.get(score.metric, score.metric)
    read = f' [{score.read}]' if score.read else ''
    status = 'no number in text, not run here' if cell.value is None else 'reported, not run here'
    best = ', the better of the runs' if score.each else ''
    where = f': {score.target}' if score.maker == 'Instead' else ''
    return f'{score.dataset} {score.protocol}, {metric}{read}: {cell} ({status}{best}){where}'


def _comment(text: str, mark: str = '# ') -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=mark, subsequent_indent='# ', break_long_words=False, break_on_hyphens=False
    )


def _fold(command: str) -> list[str]:
    """A command in lines that a shell joins, an option and its first value in the same one."""
    if len(command) <= WIDTH:
        return [command]
    lines = ['']
    for word in re.findall(r'(?:--\S+ )?\S+', command):
        if lines[-1] and len(lines[-1]) + len(word) > WIDTH - 3:
            lines.append('   ')
        lines[-1] = f'{lines[-1]} {word}' if lines[-1] else word
    return [f'{line} \\' for line in lines[:-1]] + lines[-1:]
