"""What the command line tools share: errors without stack traces, configs, ``--cfg-options``.

Importing this module is cheap: the tools parse their arguments before they import torch.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mmmim.config.cfg_options import merge_cfg_options as merge_cfg_options
from mmmim.config.keys import variables_without_effect
from mmmim.config.resources import find_config, resources
from mmmim.utils import InputError
from mmmim.utils.failures import explain
from mmmim.utils.names import forgive
from mmmim.utils.options import Count, InnerShare, Natural, Positive, Seed, check_value
from mmmim.utils.signals import Stopped, die_with_parent, handled, process_index
from mmmim.utils.threads import choose_threads

from .parser import ToolParser


@contextmanager
def user_errors() -> Iterator[None]:
    """What every tool runs in; also a decorator.

    Chooses threads (:func:`mmmim.utils.threads.choose_threads`), handles signals (:mod:`mmmim.utils.signals`), and
    ends the program with ``error: ...`` instead of a stack trace: with status 2 on an :class:`InputError`, with 1
    where a worker or another process was lost. Of several processes only the first prints the whole message.
    Names that the terminal's encoding cannot show are printed with escapes.
    """
    choose_threads()
    forgive(sys.stdout)
    if 'TORCHELASTIC_RUN_ID' in os.environ:
        die_with_parent(signal.SIGTERM)  # a launcher that is killed leaves nothing behind, and nothing is lost
    status = 2
    try:
        with handled():
            yield
            _close_process_group()
        return
    except Stopped as stopped:
        if stopped.message and process_index() == 0:
            print(stopped.message, file=sys.stderr)
        if stopped.together:
            _close_process_group()
        raise
    except InputError as error:
        message = str(error)
    except KeyError as error:
        # A misspelt `type` in a config, from mmengine's registries.
        message = str(error.args[0]) if error.args else ''
        if not re.search(r'is not in the \S+ registry', message):
            raise
        message = message.split('. More details')[0] + '.' + _similar_type(message)
    except KeyboardInterrupt:  # where signals are not handled, in a thread
        print('interrupted: --resume continues a training from its latest checkpoint', file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        explanation = explain(error)
        if explanation is None:
            raise
        message, status = explanation, 1
        # A half-made iterator of torch fails once more when it is deleted, and its handler when it hears of the worker.
        sys.unraisablehook = _without_loaders
        if hasattr(signal, 'SIGCHLD') and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (rank := process_index()) == 0:
        print(f'error: {message}', file=sys.stderr)
    else:
        print(f'error on process {rank}: {message.splitlines()[0][:80]} ...', file=sys.stderr)
    raise SystemExit(status)


def _without_loaders(unraisable: Any) -> None:
    if 'DataLoaderIter' not in getattr(unraisable.object, '__qualname__', ''):
        sys.__unraisablehook__(unraisable)


def _similar_type(message: str) -> str:
    from mmengine.registry import Registry

    import mmmim.registry

    names = [
        f'mmmim.{name}'
        for registry in vars(mmmim.registry).values()
        if isinstance(registry, Registry)
        for name in registry.module_dict
    ]
    close = difflib.get_close_matches(f'mmmim.{message.split(" is not in")[0].split(".")[-1]}', names, n=1)
    return f' Did you mean {close[0]}?' if close else ''


def _close_process_group() -> None:
    distributed = sys.modules.get('torch.distributed')
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


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
POSITIVE, INNER_SHARE = argument(Positive, float), argument(InnerShare, float)


def reporter(unit: str, seconds: float = 5.0) -> Callable[[int, int], None]:
    """A function of how much is done and how much there is, that prints the time left.

    Args:
        unit: What is counted.
        seconds: From one line to the next; there is one at the end, too.
    """
    start = shown = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal shown
        now = time.monotonic()
        if done and (now - shown >= seconds or done == total):
            shown, left = now, (now - start) / done * (total - done)
            print(f'[{done}/{total}] {unit}, {now - start:.0f} s, {left:.0f} s left', flush=True)

    return report


def progress(items: Any, unit: str, seconds: float = 5.0) -> Iterator[Any]:
    """Items whose number is known, one by one, with a line about the time left every few seconds and after the last."""
    report = reporter(unit, seconds)
    for done, item in enumerate(items, start=1):
        yield item
        report(done, len(items))


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


def add_trust_option(parser: argparse.ArgumentParser) -> None:
    """Give a tool ``--trust-checkpoint``: every tool that reads files of weights has it."""
    parser.add_argument(
        '--trust-checkpoint',
        action='store_true',
        help='also read files that hold Python objects, as checkpoints of other programs do; loading them can run any '
        'code',
    )


def add_pretrained_options(parser: argparse.ArgumentParser) -> None:
    """Give a tool ``--pretrained``, ``--encoder``, ``--weights``, for :mod:`mmmim.apis.downstream`, and trust."""
    add_trust_option(parser)
    parser.add_argument(
        '--pretrained',
        metavar='FILE',
        help='the pre-trained encoder of a downstream task: a checkpoint of mmmim or a converted one (the name of a '
        'config: random weights); with --encoder a file of another library',
    )
    parser.add_argument(
        '--encoder',
        metavar='LIBRARY:NAME',
        help='the model that --pretrained is the weights of, where it is not one of mmmim: timm:NAME or '
        'mmpretrain:NAME, e.g. timm:vit_base_patch16_224 (--pretrained random: random weights); its further arguments '
        'are +model.backbone.encoder.KEY=VALUE among --cfg-options',
    )
    parser.add_argument(
        '--weights',
        default='auto',
        choices=['auto', 'ema', 'student'],
        help='of a checkpoint of mmmim; auto: those of the teacher if there are',
    )


def add_feature_options(parser: argparse.ArgumentParser) -> None:
    """Give a tool checkpoint and images, for :func:`mmmim.features.image_files.encode_files`."""
    add_trust_option(parser)
    parser.add_argument(
        'checkpoint', metavar='CKPT', help='checkpoint; a config or the name of a model: random weights'
    )
    parser.add_argument('data', metavar='DATA', help='folder of images, flat or in class folders as ImageNet')
    parser.add_argument(
        '--weights', default='auto', choices=['auto', 'ema', 'student'], help='auto: those of the teacher if there are'
    )
    parser.add_argument('--size', type=COUNT, help='side of the square images (default: as in training)')
    parser.add_argument('--batch-size', type=COUNT, default=64, help='images encoded at a time (default: %(default)s)')
    parser.add_argument('--workers', type=NATURAL, default=2, help='processes that read images (default: %(default)s)')
    parser.add_argument('--device', help='default: cuda if there is a GPU')


def converter_parser(
    description: str | None, src: str, encoder: str = 'of the encoder', decoder_heads: int | None = 16
) -> argparse.ArgumentParser:
    """The command line that tools for weights of Vision Transformers share.

    Args:
        description: Of the tool.
        src: What the file to convert is.
        encoder: What ``--num-heads`` is of.
        decoder_heads: Default of ``--decoder-num-heads``; None for no such option.
    """
    parser = ToolParser(description=description)
    parser.add_argument('src', help=src)
    parser.add_argument('dst', help='file to write')
    parser.add_argument(
        '--num-heads',
        type=COUNT,
        help=f'{encoder}, which weights do not tell; default: 64 channels each (ViT-H: 80, ViT-g: 88)',
    )
    if decoder_heads is not None:
        parser.add_argument(
            '--decoder-num-heads', type=COUNT, default=decoder_heads, help=f'of the decoder; default: {decoder_heads}'
        )
    add_trust_option(parser)
    return parser


def load_config(path: str) -> Any:
    """Read a config file.

    Modules that it imports (``custom_imports``) may lie in the current folder, as projects do. Configs that lie
    elsewhere find those of mmmim by the environment variable ``MMMIM_CONFIGS``, which is set here.

    Args:
        path: The file. What is not in the current folder may be a config that comes with mmmim, by its path in the
            repository or its name: ``configs/capi/digits.py`` or ``capi/digits``.

    Returns:
        mmengine's ``Config``.

    Raises:
        InputError: The file does not exist or cannot be run, or sets a variable of a base config without effect.
    """
    from mmengine.config import Config

    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    os.environ.setdefault('MMMIM_CONFIGS', str(resources() / 'configs'))

    if os.path.isdir(path) and find_config(path) is None:
        raise InputError(f'{path} is a folder: give a config file inside it.')
    if not os.path.isfile(path):
        path = str(find_config(path) or path)
    if not os.path.isfile(path):
        raise InputError(f'The config {path} does not exist (in {os.getcwd()}).{_similar_file(path)}')
    try:
        cfg = Config.fromfile(path)
    except Exception as error:
        folder = os.path.dirname(os.path.abspath(path))
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename.startswith(folder)]
        where = f'{path}, line {lines[-1]},' if lines else path
        raise InputError(f'The config {where} cannot be read: {type(error).__name__}: {error}') from error
    for name, copies in variables_without_effect(cfg, path):
        raise InputError(
            f'The config {path} sets {name}, a variable of its base config, and what is read are copies of it: '
            f'set {", ".join(copies[:3])}.'
        )
    return cfg


def _similar_file(path: str) -> str:
    folder, name = os.path.split(path)
    names = [n for n in os.listdir(folder or '.') if n.endswith('.py')] if os.path.isdir(folder or '.') else []
    close = difflib.get_close_matches(name, names, n=1)
    return f' Did you mean {os.path.join(folder, close[0])}?' if close else ''
