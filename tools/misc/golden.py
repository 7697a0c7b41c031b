#!/usr/bin/env python
"""Compare the first losses of every small config with those recorded in tests/golden, or record them anew.

Ten steps on the CPU of every small.py and *_small.py of configs/, and of every small.py of projects/, by the runner
that trains. Status 1 if a loss differs from the recorded one. A change that is not meant to change numbers leaves the
files alone.
"""

import argparse
import math
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from mmmim.cli.parser import ToolParser
from mmmim.cli.program import user_errors

#: What differs from the shipped configs, for all alike. Schedules run from start to end within the ten steps, so that
#: all of a schedule counts and not its warm-up alone.
STEPS, BATCH, SEED = 10, 64, 0
#: Significant digits of a loss. Threads, workers and instruction sets change less than one in the last of them: at most
#: 5e-7 of a loss, as measured.
DIGITS = 6
#: Hooks that write, draw or score: nothing of them is in a loss.
_REPORTS = (
    'checkpoint',
    'health',
    'probe',
    'mmmim.TrainingInfoHook',
    'mmmim.CurvesHook',
    'mmmim.PicturesHook',
    'mmmim.ReportHook',
)


def parse_args() -> argparse.Namespace:
    """Command line."""
    parser = ToolParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('methods', nargs='*', metavar='METHOD', help='names of files in tests/golden (default: all)')
    parser.add_argument(
        '--update', metavar='REASON', help='record the losses that differ, with the reason in the head of their files'
    )
    return parser.parse_args()


def configs(root: Path) -> dict[str, Path]:
    """The configs whose losses are recorded, by the name of the file that holds them.

    ``configs/capi/small.py`` is ``capi``, ``configs/semantic_mim/beit_small.py`` is ``semantic_mim_beit``, and
    ``projects/bootmae/configs/small.py`` is ``bootmae``. Those of ``configs/eval`` train no encoder.

    Args:
        root: The repository.
    """
    patterns = ('configs/*/small.py', 'configs/*/*_small.py', 'projects/*/configs/small.py')
    found = {}
    for path in sorted(path for pattern in patterns for path in root.glob(pattern)):
        folder = path.relative_to(root).parts[1]
        if folder != 'eval':
            found[f'{folder}_{path.stem}'.removesuffix('_small')] = path
    return found


def golden_file(root: Path, method: str) -> Path:
    """Where the losses of a method are recorded."""
    return root / 'tests/golden' / f'{method}.txt'


def first_losses(config: str | os.PathLike, data_root: str | os.PathLike) -> list[float]:
    """The losses of the first :data:`STEPS` iterations of a pre-training config on FashionScenes.

    :class:`mmmim.Runner` trains it as it is, in a temporary work folder, but for :data:`STEPS`, :data:`BATCH` and
    :data:`SEED`, and without validation, checkpoints, probes and pictures. Tokenizers and frozen teachers have random
    weights, as there is no file of them.

    Args:
        config: The file.
        data_root: Folder with FashionScenes, which is written if it is not there.
    """
    from mmengine.hooks import Hook

    from mmmim.config.read import load_config
    from mmmim.engine import Runner

    class Losses(Hook):
        def after_train_iter(
            self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
        ) -> None:
            losses.append(float((outputs or {})['loss']))

    losses: list[float] = []
    cfg = load_config(str(config))
    cfg.train_cfg.update(max_iters=STEPS, val_interval=STEPS + 1)
    cfg.global_batch_size = BATCH
    cfg.randomness.seed = SEED
    cfg.train_dataloader.dataset.dataset.data_root = str(data_root)
    for branch in cfg.model.branches.values():
        if 'tokenizer' in branch.target_generator:
            branch.target_generator.tokenizer.untrained = True
        if branch.target_generator.type == 'mmmim.FrozenTarget':
            branch.target_generator.update(checkpoint='random', encoder=dict(cfg.model.backbone, fused=False))
    for name in ('val', 'test'):
        cfg[f'{name}_cfg'] = cfg[f'{name}_dataloader'] = cfg[f'{name}_evaluator'] = None
    cfg.probe_data = None
    cfg.default_hooks = {key: None if key in _REPORTS else hook for key, hook in cfg.default_hooks.items()}
    cfg.custom_hooks = [hook for hook in cfg.custom_hooks if hook['type'] not in _REPORTS]
    cfg.log_level = 'WARNING'
    with tempfile.TemporaryDirectory(prefix='golden_') as folder:
        cfg.work_dir = cfg.experiment_name = folder
        runner = Runner.from_cfg(cfg)
        runner.register_hook(Losses())
        runner.train()
    return losses


def unit(loss: float) -> float:
    """One in the last recorded digit of a loss: what losses may differ by, as the recorded ones are rounded."""
    return 10.0 ** (math.floor(math.log10(abs(loss))) - DIGITS + 1) if loss else 10.0**-DIGITS


def differences(recorded: list[float], measured: list[float]) -> list[str]:
    """The steps whose losses differ by more than one in the last recorded digit, a line each."""
    if len(recorded) != len(measured):
        return [f'{len(recorded)} losses are recorded, {len(measured)} were measured']
    return [
        f'step {step}: {new:#.{DIGITS}g} instead of {old:#.{DIGITS}g} '
        f'({new - old:+.1e}, {(new - old) / (abs(old) or 1):+.1e} of it)'
        for step, (old, new) in enumerate(zip(recorded, measured, strict=True), start=1)
        if not abs(new - old) <= unit(old)  # NaN differs from everything
    ]


def read(file: Path) -> list[float]:
    """Recorded losses.

    Raises:
        InputError: There is no such file, or a line of it is no number.
    """
    from mmmim.utils import InputError

    try:
        lines = file.read_text(encoding='utf-8').splitlines()
        return [float(line) for line in lines if line.strip() and not line.startswith('#')]
    except OSError as error:
        raise InputError(f'{file} cannot be read ({error.strerror}): --update REASON records it.') from error
    except ValueError as error:
        raise InputError(f'{file} is no file of losses ({error}): delete it; --update REASON records it.') from error


def other_torch(file: Path) -> str | None:
    """A sentence if a file was recorded with another release of torch, whose initial weights may be other ones."""
    import torch

    found = re.search(r'^# torch (\d+\.\d+)', file.read_text(encoding='utf-8'), re.MULTILINE)
    if found is None or torch.__version__.startswith(f'{found[1]}.'):
        return None
    return (
        f'{file.name} was recorded with torch {found[1]} and this is {torch.__version__}: the same seed may give other '
        'initial weights.'
    )


def render(config: str, losses: list[float], reason: str) -> str:
    """The text of a file.

    Raises:
        InputError: A loss is not finite.
    """
    import torch

    from mmmim.utils import InputError

    if not all(map(math.isfinite, losses)):
        raise InputError(f'{config} has losses that are not finite: {losses}. They are not recorded.')
    head = (
        f'# The first {len(losses)} losses of {config}, by python tools/misc/golden.py --update REASON.\n'
        f'# Reason: {reason}\n'
        f'# torch {torch.__version__}, seed {SEED}, {len(losses)} steps, batch {BATCH}, {DIGITS} significant digits.\n'
    )
    return head + ''.join(f'{loss:#.{DIGITS}g}\n' for loss in losses)


def run(root: Path, methods: list[str], reason: str | None, data_root: str | os.PathLike) -> bool:
    """Compare, or with a reason record, and print what is found.

    Args:
        root: The repository.
        methods: Names of :func:`configs`; none: all of them.
        reason: To record what differs; None to compare.
        data_root: Folder with FashionScenes.

    Returns:
        Whether the files hold what was measured.

    Raises:
        InputError: A method is not known, or a file cannot be read or written.
    """
    from mmmim.utils import InputError
    from mmmim.utils.atomic import write_text_atomically

    known = configs(root)
    if unknown := sorted({*methods} - {*known}):
        raise InputError(f'{", ".join(unknown)}: there are {", ".join(known)}.')
    chosen = methods or list(known)
    equal = True
    for number, method in enumerate(chosen, start=1):
        file = golden_file(root, method)
        recorded = [] if reason is not None and not file.exists() else read(file)
        losses = first_losses(known[method], data_root)
        lines = differences(recorded, losses)
        if lines and recorded and (note := other_torch(file)):
            lines.append(note)
        if lines and reason is not None:
            text = render(known[method].relative_to(root).as_posix(), losses, reason)
            write_text_atomically(text, str(file))
        verdict = 'as recorded' if not lines else 'differs' if reason is None else 'recorded'
        print(f'[{number}/{len(chosen)}] {method}: {verdict}', *(lines if recorded else []), sep='\n    ', flush=True)
        equal = equal and (not lines or reason is not None)
    return equal


@user_errors()
def main() -> None:
    """Run."""
    args = parse_args()
    os.environ['CUDA_VISIBLE_DEVICES'] = ''  # recorded on a CPU

    from mmmim.config.resources import repository
    from mmmim.utils import InputError

    reason = None if args.update is None else ' '.join(args.update.split())
    if reason == '':
        raise InputError('--update wants a reason: say in a sentence why the losses are other ones now.')
    if (root := repository()) is None:
        raise InputError('mmmim is installed without its repository: losses are recorded and compared in a clone.')
    with tempfile.TemporaryDirectory(prefix='golden_data_') as data_root:
        if not run(root, args.methods, reason, data_root):
            raise SystemExit(1)


if __name__ == '__main__':
    main()
