"""What the command line tools share: errors without stack traces, configs, ``--cfg-options``.

Importing this module is cheap: the tools parse their arguments before they import torch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from mmmim.config.cfg_options import merge_cfg_options as merge_cfg_options
from mmmim.utils import InputError
from mmmim.utils.options import Count, InnerShare, Natural, NonNegative, Positive, Seed, Share, check_value


def argument(hint: Any, parse: Callable[[str], Any] = int) -> Callable[[str], Any]:
    """The ``type`` of an argument of a tool, from one of the ranges of :mod:`mmmim.utils.options`."""

    def convert(text: str) -> Any:
        try:
            value = parse(text)
        except ValueError:
            value = text
        try:
            check_value('it', value, hint)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return value

    return convert


#: Of arguments of tools: ``parser.add_argument('--size', type=COUNT)``.
COUNT, NATURAL, SEED = argument(Count), argument(Natural), argument(Seed)
POSITIVE, NON_NEGATIVE = argument(Positive, float), argument(NonNegative, float)
SHARE, INNER_SHARE = argument(Share, float), argument(InnerShare, float)
#: In the help of what :func:`mmmim.cli.inputs.load_model` reads.
CHECKPOINT = (
    'checkpoint, or a name of published weights, which are downloaded (mmmim list --pretrained); timm:NAME=FILE, '
    'mmpretrain:NAME=FILE (=random: random weights) or huggingface:FOLDER; a config or its name: random weights'
)
#: In the help of options that take names of features of whole images.
FEATURES = 'such as cls, pooled, predicted, top10, cls+pooled, cls@5 (all names: docs/en/evaluation.md)'


def add_cfg_options(parser: argparse.ArgumentParser, example: str = '') -> None:
    """Give a tool ``--cfg-options``, for :func:`merge_cfg_options`; ``example`` stands in its help."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action='extend',
        default=[],
        metavar='KEY=VALUE',
        help=f'change keys of the config{example and f", e.g. {example}"}; +KEY=VALUE adds a key that it lacks, '
        '~KEY removes one',
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Give a tool that runs a config ``--launcher`` and what launchers add to a command line."""
    parser.add_argument('--launcher', choices=['none', 'pytorch', 'slurm', 'mpi'], default='none', help='job launcher')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)


class _Import(argparse.Action):
    """Imports a module that the user names, from the current folder too; what a file says is never imported."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, option: str | None = None
    ) -> None:
        if os.getcwd() not in sys.path:
            sys.path.append(os.getcwd())
        try:
            import_module(value)
        except ImportError as error:
            parser.error(f'--import {value}: {error}')
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest, None) or []), value])


def add_import_option(parser: argparse.ArgumentParser) -> None:
    """Give a tool ``--import``, for checkpoints of models with parts of a project."""
    parser.add_argument(
        '--import',
        dest='imports',
        action=_Import,
        metavar='MODULE',
        help='import this module of a project first, whose parts the model of the checkpoint has, e.g. '
        'projects.bootmae.decoder; may be repeated',
    )


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Give a tool ``--trust-checkpoint``: every tool that reads files of weights has it."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also read files that hold Python objects, as checkpoints of other programs do; loading them can run any '
        'code',
    )


def add_checkpoint_options(parser: argparse.ArgumentParser) -> None:
    """Give a tool that builds the model of a checkpoint ``--trust-checkpoint`` and ``--import``."""
    add_trust_option(parser)
    add_import_option(parser)


def add_pretrained_options(parser: argparse.ArgumentParser) -> None:
    """Give a tool ``--pretrained``, ``--encoder``, ``--weights``, for :mod:`mmmim.apis.downstream`, and trust."""
    add_checkpoint_options(parser)
    parser.add_argument(
        '--pretrained',
        metavar='FILE',
        help='the pre-trained encoder of a downstream task: a checkpoint of mmmim or a converted one, timm:NAME=FILE, '
        'mmpretrain:NAME=FILE, huggingface:FOLDER, or a name of published weights, which are downloaded (mmmim list '
        '--pretrained; the name of a config: random weights)',
    )
    parser.add_argument(
        '--encoder',
        metavar='LIBRARY:NAME',
        help='for a model of another library that needs further arguments, +model.backbone.encoder.KEY=VALUE among '
        '--cfg-options: timm:NAME, mmpretrain:NAME or huggingface:FOLDER with its config.json, e.g. '
        'timm:vit_base_patch16_224; --pretrained is then the file of its weights, or random',
    )
    parser.add_argument(
        '--weights',
        default='auto',
        choices=['auto', 'ema', 'student', 'random'],
        help='of a checkpoint of mmmim; auto: those of the teacher if there are; random: of any file only the encoder '
        'that it describes',
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Give a tool that looks at an encoder what :func:`mmmim.cli.inputs.load_model` reads, but for the checkpoint."""
    add_checkpoint_options(parser)
    parser.add_argument(
        '--weights', default='auto', choices=['auto', 'ema', 'student'], help='auto: those of the teacher if there are'
    )
    parser.add_argument('--device', help='default: cuda if there is a GPU')


def add_feature_options(parser: argparse.ArgumentParser) -> None:
    """Give a tool checkpoint and images, for :func:`mmmim.features.image_files.encode_files`."""
    add_model_options(parser)
    parser.add_argument(
        'checkpoint',
        metavar='CKPT',
        help=CHECKPOINT,
    )
    parser.add_argument('data', metavar='DATA', help='folder of images, flat or in class folders as ImageNet')
    parser.add_argument('--size', type=COUNT, help='side of the square images (default: as in training)')
    parser.add_argument('--batch-size', type=COUNT, default=64, help='images encoded at a time (default: %(default)s)')
    parser.add_argument('--workers', type=NATURAL, default=2, help='processes that read images (default: %(default)s)')
