"""Configs are read from files here, with one clear sentence where that fails."""

from __future__ import annotations

import difflib
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmmim.utils import InputError
from mmmim.utils.internals import config_dict, introduce_to_mmengine
from mmmim.utils.nested import dicts

from .images import apply_images
from .keys import variables_without_effect
from .resources import find_config, resources


def load_config(path: str) -> Any:
    """Read a config file.

    Modules that it imports (``custom_imports``) may lie in the current folder, as projects do. Configs that lie
    elsewhere find those of mmmim by the environment variable ``MMMIM_CONFIGS``, which is set here, or as
    ``_base_ = 'mmmim::capi/small.py'``.

    Args:
        path: The file. What is not in the current folder may be a config that comes with mmmim, by its path in the
            repository or its name: ``configs/capi/small.py`` or ``capi/small``.

    Returns:
        mmengine's ``Config``.

    Raises:
        InputError: The file does not exist or cannot be run, or sets a variable of a base config without effect, or
            its ``images`` mean nothing.
    """
    from mmengine.config import Config

    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    os.environ.setdefault('MMMIM_CONFIGS', str(resources() / 'configs'))
    introduce_to_mmengine('mmmim')

    if os.path.isdir(path) and find_config(path) is None:
        raise InputError(f'{path} is a folder: give a config file inside it.')
    if not os.path.isfile(path):
        path = str(find_config(path) or path)
    if not os.path.isfile(path):
        raise InputError(f'The config {path} does not exist (in {os.getcwd()}).{_similar_file(path)}')
    try:
        with _quiet():
            cfg = Config.fromfile(path)
    except Exception as error:
        folder = os.path.dirname(os.path.abspath(path))
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename.startswith(folder)]
        where = f'{path}, line {lines[-1]},' if lines else path
        raise InputError(f'The config {where} cannot be read: {type(error).__name__}: {error}') from error
    # Where a base is `mmmim::...`, mmengine adds the package to dicts with a type, which name it themselves. Functions
    # that are named so would get it as an argument.
    for node in list(dicts(config_dict(cfg))):
        if node.get('_scope_') == 'mmmim':
            del node['_scope_']
    for name, copies in variables_without_effect(cfg, path):
        raise InputError(
            f'The config {path} sets {name}, a variable of its base config, and what is read are copies of it: '
            f'set {", ".join(copies[:3])}.'
        )
    apply_images(cfg)
    return cfg


def _similar_file(path: str) -> str:
    folder, name = os.path.split(path)
    names = [n for n in os.listdir(folder or '.') if n.endswith('.py')] if os.path.isdir(folder or '.') else []
    close = difflib.get_close_matches(name, names, n=1)
    return f' Did you mean {os.path.join(folder, close[0])}?' if close else ''


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep mmengine from saying of every variable of the environment that a config reads it."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.INFO))
    try:
        yield
    finally:
        logging.disable(before)
