#!/usr/bin/env python
"""Write the models of all metafiles that model-index.yml imports, from the configs and pages beside them.

The head of a metafile, its Collections, is written by hand and stays. Sizes are those of the built models, numbers of
papers those of the page's columns "... (reported)".
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors
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
_LINK = re.compile(r'\]\(([^)\s]+\.py)\)')
#: A column of a paper's numbers: data set, protocol, and the paper if it is another one than the page's.
_REPORTED = re.compile(r'(\S+) (.+) \(reported(?: in ([^)]+))?\)')


def metafiles(root: Path) -> list[Path]:
    """The metafiles that ``model-index.yml`` imports."""
    index = yaml.safe_load((root / 'model-index.yml').read_text(encoding='utf-8'))
    return [root / path for path in index['Import']]


def write_metafile(path: Path, root: Path) -> str:
    """The text of a metafile: its head, up to ``Models:``, as it is, and a model per config beside the file.

    Args:
        path: The metafile. Without ``Collections``, its models belong to that of the folder above.
        root: The repository.

    Returns:
        The text.

    Raises:
        InputError: The file has no ``Models:``, or no collection.
    """
    head, found, _ = path.read_text(encoding='utf-8').partition('\nModels:\n')
    if not found:
        raise InputError(f'{path} has no line "Models:".')
    reported = read_reported(path.with_name('README.md'))
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


def read_reported(readme: Path) -> dict[str, list[dict[str, Any]]]:
    """A paper's numbers in a page, by the config that a row links to.

    A column of such numbers is named ``<data set> <protocol> (reported)``, or ``(reported in <paper>)`` where it is not
    the page's own paper; a protocol that ends in mIoU is one of segmentation, any other of classification.
    """
    reported: dict[str, list[dict[str, Any]]] = {}
    text = readme.read_text(encoding='utf-8')
    paper = re.search(r'arxiv\.org/abs/([\d.]+)', text)
    own = f'reported in arXiv {paper.group(1)}' if paper else 'reported'
    for row in read_tables(text):
        link = _LINK.search(' '.join(row.values()))
        results = []
        for name, cell in row.items():
            if (column := _REPORTED.fullmatch(name)) and cell:
                data, protocol, other = column.groups()
                dense = protocol.endswith('mIoU')
                results.append(
                    {
                        'Task': 'Semantic Segmentation' if dense else 'Image Classification',
                        'Dataset': data,
                        'Metrics': {'mIoU' if dense else 'Top 1 Accuracy': float(cell)},
                        'Protocol': protocol.removesuffix('mIoU').strip(),
                        'Source': f'{f"reported in {other}" if other else own}, not run here',
                    }
                )
        if link and results and reported.setdefault(link.group(1), results) != results:
            raise InputError(f'{readme}: the rows of {link.group(1)} do not agree.')
    return reported


def _model(path: Path, collection: str, reported: Mapping[str, list], root: Path) -> dict[str, Any]:
    import torch
    from mmengine import Config

    from mmmim.registry import MODELS

    cfg = Config.fromfile(path)
    with torch.device('meta'):
        model = MODELS.build(cfg.model)
    config = path.relative_to(root).as_posix()
    return {
        'Name': config.removeprefix('configs/').removesuffix('.py'),
        'In Collection': collection,
        'Metadata': {
            'Training Data': training_data(cfg),
            'Iterations': cfg.train_cfg.max_iters,
            'Batch Size': cfg.global_batch_size,
            'Parameters': sum(p.numel() for p in model.backbone.parameters()),
            'Trained Parameters': sum(p.numel() for p in model.parameters() if p.requires_grad),
        },
        'Results': reported.get(path.name),
        'Weights': None,
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
    stale = []
    for path in metafiles(root):
        text = write_metafile(path, root)
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
