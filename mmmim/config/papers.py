"""Tables of papers: the numbers that they report, and the commands that would make them.

``configs/*/tables.yml`` has a paper each, written by hand: ``Name``, ``Title``, ``Source``, ``Weights`` ('student' or
'ema', which the paper evaluates of its own method), ``Scores`` (what a column of a table is, by a short name) and
``Tables``. :class:`Score` has the keys of a column, :class:`Row` those of a row. What a row has in another way than its
column stands in the row's ``With``, by the column's name, or under ``all``. A value is a number, [mean, deviation],
.nan for a training that diverged, or null.
"""

from __future__ import annotations

import dataclasses
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmmim.utils import InputError

#: How a score is made, of which it has one.
MAKERS = ('Test', 'Train', 'Repeat', 'Tool', 'Instead')


@dataclass(frozen=True)
class Score:
    """A column of a table: what is measured, and how.

    Attributes:
        name: The short name of the column, and of the folder of the results.
        dataset: Data set, as pages call it.
        protocol: Protocol, as pages call it.
        metric: 'Top 1 Accuracy', 'mIoU', ...
        maker: How the score is made, one of :data:`MAKERS`.
        target: What the maker's key says: a config for downstream tasks that ``mmmim test`` fits and tests, that
            ``mmmim train`` trains, or that ``repeat.py`` trains with several seeds; a tool that takes a checkpoint; or
            why there is no command.
        data: ``MMMIM_DATA``; None for the data set of the config.
        options: Values of ``--cfg-options`` of the command.
        each: One more option for each of several runs, of which the best counts; empty for a single run.
        words: Further words of the command, as a shell reads them.
        chosen: Whether a trained config is tested in a run of its own, which chooses among its heads.
        read: Name of the score in what the command prints, where that has several.
    """

    name: str
    dataset: str
    protocol: str
    metric: str
    maker: str
    target: str
    data: str | None = None
    options: tuple[str, ...] = ()
    each: tuple[str, ...] = ()
    words: str = ''
    chosen: bool = False
    read: str | None = None

    @property
    def config(self) -> str | None:
        """Name of the config for downstream tasks; None where there is none."""
        return self.target if self.maker in ('Test', 'Train', 'Repeat') else None

    def commands(self, weights: str, tools: str = 'tools', folder: str | None = None) -> list[str]:
        """The commands that make it, for a shell.

        Args:
            weights: 'student' or 'ema' of a checkpoint; 'auto' for the default.
            tools: The folder of the tools.
            folder: Where results go; the checkpoint is then the shell's variable CKPT. None for words in the place of
                files, CKPT and CLASSIFIER.
        """
        if self.maker == 'Instead':
            return []
        runs: list[tuple[str | None, str | None]] = [(folder, None)]
        if self.each:
            runs = [(folder and f'{folder}_{number}', option) for number, option in enumerate(self.each)]
        return [command for place, option in runs for command in self._run(weights, tools, place, option)]

    def _run(self, weights: str, tools: str, folder: str | None, option: str | None) -> list[str]:
        checkpoint = 'CKPT' if folder is None else '$CKPT'
        more = [self.words] if self.words else []
        more += [] if weights == 'auto' else ['--weights', weights]
        if self.maker == 'Tool':
            into = [] if folder is None else ['--out-dir', folder]
            return [' '.join(['python', f'{tools}/{self.target}', checkpoint, *more, *into])]
        program = {
            'Test': 'mmmim test',
            'Train': 'mmmim train',
            'Repeat': f'python {tools}/analysis_tools/repeat.py',
        }[self.maker]
        data = [] if self.data is None else [f'MMMIM_DATA={self.data}']
        into = [] if folder is None else ['--work-dir', folder]
        options = [*self.options, *([] if option is None else [option])]
        changed = ['--cfg-options', *map(shlex.quote, options)] if options else []
        found = [[*data, program, self.target, '--pretrained', checkpoint, *more, *into, *changed]]
        if self.chosen:
            trained = 'CLASSIFIER' if folder is None else f'$(cat {folder}/last_checkpoint)'
            found.append([*data, 'mmmim test', self.target, trained, *into])
        return [' '.join(command) for command in found]


@dataclass(frozen=True)
class Cell:
    """A number of a row: its score, the value (None: not reported in text, NaN: diverged), maybe a deviation."""

    score: Score
    value: float | None
    deviation: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return '-'
        if math.isnan(self.value):
            return 'nan'
        least = 2 if self.score.metric in ('RankMe', 'Cosine Similarity') else 1
        digits = max(least, len(str(self.value).partition('.')[2]))
        return f'{self.value:.{digits}f}' + ('' if self.deviation is None else f' +- {self.deviation:.1f}')


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        label: What the paper calls it (key ``Row``).
        config: Name of the config of the pre-training, or the file of a project; with ``convert``, the config of its
            encoder; None where there is no recipe here.
        convert: Published file of weights that is converted in the place of a pre-training.
        note: Remark on the row, such as a reading of ours.
        weights: 'student' or 'ema' of the checkpoint, 'auto' for the default.
        cells: The numbers of the row.
    """

    label: str
    config: str | None
    convert: str | None
    note: str | None
    weights: str
    cells: tuple[Cell, ...]

    @property
    def folder(self) -> str | None:
        """Where its results go."""
        if self.convert is not None:
            return f'work_dirs/{self.convert.split(".")[0]}'
        return None if self.config is None else f'work_dirs/{self.config.removesuffix(".py").replace("/configs", "")}'

    def commands(self) -> list[str]:
        """The commands that make its checkpoint, for a shell: CKPT is then its file, DIR the folder."""
        if self.folder is None:
            return []
        if self.convert is not None:
            return [f'DIR={self.folder}', 'CKPT=$DIR/converted.pth', f'mmmim convert {self.convert} $CKPT']
        return [f'DIR={self.folder}', f'mmmim train {self.config} --work-dir $DIR', 'CKPT=$(cat $DIR/last_checkpoint)']


@dataclass(frozen=True)
class Table:
    """A table or figure of a paper: what the paper calls it, what it is about, a remark, and its rows."""

    name: str
    caption: str
    note: str | None
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Paper:
    """A paper: the file with its tables, its method, title, where it is, and the tables."""

    path: Path
    name: str
    title: str
    source: str
    tables: tuple[Table, ...]


def read_papers(root: Path) -> list[Paper]:
    """The papers of ``configs/*/tables.yml``.

    Args:
        root: The folder that has ``configs``.

    Raises:
        InputError: A file cannot be understood.
    """
    return [read_paper(path) for path in sorted(root.glob('configs/*/tables.yml'))]


def read_paper(path: Path) -> Paper:
    """The paper of a file.

    Raises:
        InputError: It cannot be understood.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except yaml.YAMLError as error:
        raise InputError(f'{path} is no YAML: {" ".join(str(error).split())}') from error
    try:
        return _paper(content, path)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f'it lacks {error}' if isinstance(error, KeyError) else str(error)
        raise InputError(f'{path} has no tables of a paper: {what}. mmmim/config/papers.py has its keys.') from error


def _paper(content: Any, path: Path) -> Paper:
    _check_keys(content, 'the file', ('Name', 'Title', 'Source', 'Weights', 'Scores', 'Tables'))
    scores = {name: _score(name, keys) for name, keys in content['Scores'].items()}
    # Which of the two sets of weights a paper evaluates is said of its own method.
    weights = {path.parent.name: content.get('Weights', 'auto')}
    tables = []
    for table in content['Tables']:
        _check_keys(table, 'a table', ('Table', 'Caption', 'Scores', 'Note', 'Rows'))
        columns = [scores[name] for name in table['Scores']]
        rows = tuple(_row(row, table['Table'], columns, content['Scores'], weights) for row in table['Rows'])
        tables.append(Table(table['Table'], table['Caption'], table.get('Note'), rows))
    return Paper(path, content['Name'], content['Title'], content['Source'], tuple(tables))


def _check_keys(node: Any, what: str, known: Sequence[str]) -> None:
    if not isinstance(node, Mapping):
        raise TypeError(f'{what} is {node!r}')
    if unknown := [key for key in node if key not in known]:
        raise ValueError(f'{what} has {unknown[0]!r}, and may have {", ".join(known)}')


def _score(name: str, keys: Mapping[str, Any]) -> Score:
    optional = {field.name.capitalize(): field.name for field in dataclasses.fields(Score)[6:]}
    _check_keys(keys, f'the score {name}', ('Dataset', 'Protocol', 'Metric', *MAKERS, *optional))
    makers = [key for key in MAKERS if key in keys]
    if len(makers) != 1:
        raise ValueError(f'the score {name} has {" and ".join(makers) or "none"} of {", ".join(MAKERS)}: one is needed')
    settings = {optional[key]: value for key, value in keys.items() if key in optional}
    settings |= {key: tuple(settings[key]) for key in ('options', 'each') if key in settings}
    return Score(name, keys['Dataset'], keys['Protocol'], keys['Metric'], makers[0], keys[makers[0]], **settings)


def _row(row: Any, table: str, columns: Sequence[Score], scores: Mapping[str, Any], weights: Mapping[str, str]) -> Row:
    _check_keys(row, f'a row of {table}', ('Row', 'Config', 'Convert', 'Values', 'Note', 'With'))
    values, other = row['Values'], row.get('With', {})
    if len(values) != len(columns):
        raise ValueError(f'{row["Row"]!r} of {table} has {len(values)} values in {len(columns)} columns')
    _check_keys(other, f'With of {row["Row"]!r} of {table}', ('all', *(column.name for column in columns)))
    cells = []
    for column, value in zip(columns, values, strict=True):
        keys = {**scores[column.name], **other.get('all', {}), **other.get(column.name, {})}
        value, deviation = value if isinstance(value, list) else (value, None)
        cells.append(Cell(_score(column.name, keys), None if value is None else float(value), deviation))
    config = row.get('Config')
    known = weights.get(config.split('/')[0], 'auto') if config else 'auto'
    return Row(row['Row'], config, row.get('Convert'), row.get('Note'), known, tuple(cells))
