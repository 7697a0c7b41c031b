#!/usr/bin/env python
"""Write the models of all metafiles that model-index.yml imports, from the configs beside them.

The head of a metafile, its Collections, is written by hand and stays. Sizes are those of the built models, numbers of
papers and commands those of configs/*/tables.yml, weights those of configs/weights.yml. A page whose columns
"... (reported)" say another number is an error.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors
from mmmim.config.papers import Paper, read_papers
from mmmim.config.weights import read_weights
from mmmim.utils import InputError

#: Names of data sets, by a part of the folder that a config reads them from.
_DATA = {
    'imagenet22k': 'ImageNet-22k',
    'imagenet100': 'ImageNet-100',
    'imagenet': 'ImageNet-1k',
    'places205': 'Places205',
    'lvd142m': 'LVD-142M',
    'fashion_scenes': 'FashionScenes',
}
#: What a row of a page is about: a config beside the page, or a published file of weights.
_LINK = re.compile(r'\]\(([^)\s]+\.py)\)')
_FILE = re.compile(r'`([\w.-]+\.(?:pth|tar))`')
#: What a metric belongs to.
_TASKS = {'Top 1 Accuracy': 'Image Classification', 'mIoU': 'Semantic Segmentation'}
_TASKS |= dict.fromkeys(('J&F-Mean', 'J-Mean', 'F-Mean'), 'Video Object Segmentation')
_TASKS |= dict.fromkeys(('RankMe', 'Cosine Similarity'), 'Feature Spread')
#: A column of a paper's numbers: data set and protocol, and the paper if it is another one than the page's.
_REPORTED = re.compile(r'(.+) \(reported(?: in ([^)]+))?\)')


def metafiles(root: Path) -> list[Path]:
    """The metafiles that ``model-index.yml`` imports."""
    index = yaml.safe_load((root / 'model-index.yml').read_text(encoding='utf-8'))
    return [root / path for path in index['Import']]


def write_metafile(path: Path, root: Path, papers: Sequence[Paper]) -> str:
    """The text of a metafile: its head, up to ``Models:``, as it is, and a model per config beside the file.

    Args:
        path: The metafile. Without ``Collections``, its models belong to that of the folder above.
        root: The repository.
        papers: The papers whose numbers are results.

    Returns:
        The text.

    Raises:
        InputError: The file has no ``Models:``, or no collection, or the page beside it has a number that no paper has.
    """
    head, found, _ = path.read_text(encoding='utf-8').partition('\nModels:\n')
    if not found:
        raise InputError(f'{path} has no line "Models:".')
    check_page(path.with_name('README.md'), root, papers)
    reported = results(papers)
    collection = _collection(path)
    models = [_model(config, collection, reported, root) for config in sorted(path.parent.glob('*.py'))]
    return f'{head}\n{yaml.dump({"Models": models}, Dumper=_Indented, sort_keys=False, width=1000)}'


def _collection(path: Path) -> str:
    """The collection of a metafile: its own, or that of the nearest folder above."""
    for folder in path.parents:
        file = folder / 'metafile.yml'
        if not file.is_file():
            break
        # What stands below is written by machine and may be out of date.
        head = yaml.safe_load(file.read_text(encoding='utf-8').partition('\nModels:\n')[0]) or {}
        if head.get('Collections'):
            return head['Collections'][0]['Name']
    raise InputError(f'{path} has no "Collections:", nor has a metafile.yml in the folder above.')


class _Indented(yaml.SafeDumper):
    """Lists are indented, as in the metafiles of OpenMMLab."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def read_tables(text: str) -> Iterator[dict[str, str]]:
    """The rows of the tables of a Markdown text, as cells by the header of their column."""
    header: list[str] | None = None
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip('|').split('|')] if line.startswith('|') else []
        if not cells:
            header = None
        elif header is None:
            header = cells
        elif not all(re.fullmatch(r':?-+:?', cell) for cell in cells):
            yield dict(zip(header, cells, strict=True))


def results(papers: Sequence[Paper]) -> dict[str, list[dict[str, Any]]]:
    """What papers report of a config's training, as results of a metafile, by the name of the config."""
    found: dict[str, dict[tuple[str, ...], dict[str, Any]]] = {}
    for paper in papers:
        for table, row, cell in ((t, r, c) for t in paper.tables for r in t.rows for c in r.cells):
            if row.config is None or row.convert is not None or cell.value is None or math.isnan(cell.value):
                continue
            result = {
                'Task': _TASKS[cell.score.metric],
                'Dataset': cell.score.dataset,
                'Metrics': {cell.score.metric: cell.value},
                **({} if cell.deviation is None else {'Deviation': cell.deviation}),
                'Protocol': cell.score.protocol,
                'Source': f'reported in {paper.name} ({paper.source}), not run here',
                'Table': table.name,
                'Command': ' && '.join(cell.score.commands(row.weights)) or None,
            }
            key = tuple(str(value) for name, value in result.items() if name != 'Table')
            same = found.setdefault(row.config, {}).setdefault(key, result)
            if table.name not in same['Table'].split(', '):
                same['Table'] += f', {table.name}'
    return {config: list(each.values()) for config, each in found.items()}


def check_page(readme: Path, root: Path, papers: Sequence[Paper]) -> None:
    """Compare the numbers of papers in a page with the tables of the papers.

    A column of such numbers is named ``<data set> <protocol> (reported)``, or ``(reported in <paper>)`` where it is not
    the page's own paper, that of the ``tables.yml`` beside it or above; of segmentation, mIoU follows the protocol.

    Raises:
        InputError: A number stands in no table in this way.
    """
    known: dict[tuple[str, str, str], set[float | None]] = {}
    for paper in papers:
        for row, cell in ((r, c) for table in paper.tables for r in table.rows for c in r.cells):
            about = row.convert or f'configs/{row.config}.py'
            title = f'{cell.score.dataset} {cell.score.protocol}{" mIoU" if cell.score.metric == "mIoU" else ""}'
            for name in (paper.name, paper.source):
                known.setdefault((about, title, name), set()).add(cell.value)
    own = next((p.name for folder in readme.parents for p in papers if p.path.parent == folder), '')
    for row in read_tables(readme.read_text(encoding='utf-8')):
        text = ' '.join(row.values())
        link, file = _LINK.search(text), _FILE.search(text)
        linked = (readme.parent / link.group(1)).resolve().relative_to(root.resolve()).as_posix() if link else ''
        about = linked or (file.group(1) if file else '')
        for name, number in row.items():
            if (column := _REPORTED.fullmatch(name)) and number:
                values = known.get((about, column.group(1), column.group(2) or own), set())
                if float(number) not in values:
                    has = ' or '.join(map(str, values)) or 'none'
                    raise InputError(f'{readme}: {about} has {number} as "{name}", and tables.yml {has}.')


def _model(path: Path, collection: str, reported: Mapping[str, list], root: Path) -> dict[str, Any]:
    import torch
    from mmengine import Config

    from mmmim.registry import MODELS

    cfg = Config.fromfile(path)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    config = path.relative_to(root).as_posix()
    name = config.removeprefix('configs/').removesuffix('.py')
    published = [row.url for row in read_weights().weights.values() if row.config == name]
    return {
        'Name': name,
        'In Collection': collection,
        'Metadata': {
            'Training Data': training_data(cfg),
            'Iterations': cfg.train_cfg.max_iters,
            'Batch Size': cfg.global_batch_size,
            'Parameters': sum(p.numel() for p in model.backbone.parameters()),
            'Trained Parameters': sum(p.numel() for p in model.parameters() if p.requires_grad),
        },
        'Results': reported.get(name),
        'Weights': published[0] if published else None,
        'Config': config,
    }


def training_data(cfg: Any) -> str:
    """What a config trains on: the name of the data set, or its folder."""
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    name = next((name for part, name in _DATA.items() if part in dataset.data_root), dataset.data_root)
    return f'{name} ({dataset.subset})' if 'subset' in dataset else name


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing; status 1 if a file is not up to date')
    return parser.parse_args()


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()

    from mmmim.config.resources import repository

    root = repository()
    if root is None:
        raise InputError('mmmim is installed without its repository: metafiles are written in a clone.')
    papers, stale = read_papers(root), []
    for path in metafiles(root):
        text = write_metafile(path, root, papers)
        if text != path.read_text(encoding='utf-8'):
            stale.append(path.relative_to(root).as_posix())
            if not args.check:
                path.write_text(text, encoding='utf-8')
    done = 'Out of date' if args.check else 'Wrote'
    print(f'{done}: {", ".join(stale)}.' if stale else 'All metafiles are up to date.')
    if stale and args.check:
        raise SystemExit(1)


if __name__ == '__main__':
    main()
