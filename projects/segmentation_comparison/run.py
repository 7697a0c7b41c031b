#!/usr/bin/env python
"""Pre-train every method on DigitScenes and segment with its features, protocol by protocol."""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

from mmmim.cli.program import user_errors
from mmmim.comparison.jobs import file_name, run_command
from mmmim.comparison.record import config_hash, digest
from mmmim.config.read import load_config
from mmmim.utils import InputError
from mmmim.utils.tables import markdown_table
from mmmim.visualization.bars import draw_bars

ROOT = Path(__file__).resolve().parents[2]
#: By name the config of the pre-training, and whether it is trained.
MODELS = {
    'random init': ('configs/mae/digits.py', False),
    'MAE': ('configs/mae/digits.py', True),
    'CAPI': ('configs/capi/digits.py', True),
    'Latent MIM': ('configs/latent_mim/digits.py', True),
    'PiLaMIM': ('configs/pilamim/digits.py', True),
    'SemanticMIM (MaskFeat)': ('configs/semantic_mim/maskfeat_digits.py', True),
}
#: By column the protocol, the score and the last iteration of those that train.
PROTOCOLS = {
    'k-NN, capi': ('seg_knn_digits', 'capi/mIoU', None),
    'k-NN, mmseg': ('seg_knn_digits', 'mmseg/mIoU', None),
    'logistic regression': ('seg_logreg_digits', 'capi/mIoU', None),
    'linear': ('seg_linear_digits', 'mIoU', 500),
    'UPerNet, fine-tuned': ('seg_upernet_digits', 'mIoU', 300),
}


def tool(name: str, *arguments: object) -> None:
    """Run a tool of the repository and stop where it fails; what is stopped with this program saves."""
    command = [sys.executable, str(ROOT / 'tools' / name), *map(str, arguments)]
    print(' '.join(command), flush=True)
    if status := run_command(command, ROOT):
        raise InputError(f'{name} ended with status {status}: {" ".join(command)}')


def pretrain(work: Path, model: str, seed: int, iterations: int) -> str:
    """The checkpoint of a model; of the random initialisation its config."""
    config, trained = MODELS[model]
    if not trained:
        return config
    folder = work / 'pretrain' / file_name(model) / f'seed_{seed}'
    checkpoint = folder / f'iter_{iterations}.pth'
    if not checkpoint.exists():
        options = (f'train_cfg.max_iters={iterations}', f'randomness.seed={seed}')
        tool('train.py', config, '--work-dir', folder, '--resume', '--cfg-options', *options)
    return str(checkpoint)


def evaluate(work: Path, model: str, seed: int, checkpoint: str, protocol: str, last: int | None) -> dict[str, float]:
    """Test scores of one protocol."""
    # Scores of another pre-training or protocol are others, and so are the trainings before them.
    weights = Path(checkpoint).stem if MODELS[model][1] else 'random'
    hashes = [config_hash(load_config(str(ROOT / name))) for name in (MODELS[model][0], f'configs/eval/{protocol}.py')]
    folder = work / protocol / file_name(model) / digest([weights, *hashes]) / f'seed_{seed}'
    out = folder / 'test.json'
    if not out.exists():
        folder.mkdir(parents=True, exist_ok=True)
        config, options = f'configs/eval/{protocol}.py', ('--cfg-options', f'randomness.seed={seed}')
        if last is None:
            tool('test.py', config, '--pretrained', checkpoint, '--work-dir', folder, '--out', out, *options)
        else:
            tool('train.py', config, '--pretrained', checkpoint, '--work-dir', folder, '--resume', *options)
            tool('test.py', config, folder / f'iter_{last}.pth', '--work-dir', folder, '--out', out)
    return json.loads(out.read_text())


@user_errors()
def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/segmentation_comparison')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--models', nargs='+', default=list(MODELS), choices=list(MODELS))
    parser.add_argument('--protocols', nargs='+', default=list(PROTOCOLS), choices=list(PROTOCOLS))
    parser.add_argument('--iterations', type=int, default=300, help='of the pre-training')
    args = parser.parse_args()
    work = args.work_dir.resolve()
    values: dict[str, dict[str, list[float]]] = {model: {} for model in args.models}
    for seed in args.seeds:
        for model in args.models:
            checkpoint = pretrain(work, model, seed, args.iterations)
            for column in args.protocols:
                protocol, score, last = PROTOCOLS[column]
                scores = evaluate(work, model, seed, checkpoint, protocol, last)
                values[model].setdefault(column, []).append(scores[score])
            write(work, args.protocols, values, seeds=args.seeds, iterations=args.iterations)


def write(work: Path, columns: list[str], values: dict[str, dict[str, list[float]]], **about: Any) -> None:
    """What is there so far, with ``about`` it, as ``results.json``, ``table.md`` and ``figure.png``."""
    record = {
        'about': {'torch': torch.__version__, 'split': 'test', **about},
        'results': {'single': values},
    }
    (work / 'results.json').write_text(json.dumps(record, indent=1) + '\n')
    rows = [[model, *(_cell(found.get(column, [])) for column in columns)] for model, found in values.items()]
    table = markdown_table(['mIoU', *columns], rows)
    (work / 'table.md').write_text(table + '\n')
    drawn = [column for column in columns if any(column in found for found in values.values())]
    draw_bars(
        {'single': values},
        {'single': list(values)},
        drawn,
        work / 'figure.png',
        'Segmentation of DigitScenes: test mIoU',
    )
    print(table, flush=True)


def _cell(scores: list[float]) -> str:
    if not scores:
        return ''
    spread = f' ± {statistics.stdev(scores):.2f}' if len(scores) > 1 else ''
    return f'{statistics.mean(scores):.2f}{spread}'


if __name__ == '__main__':
    main()
