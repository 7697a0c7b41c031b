"""The checkpoints of a folder: which of them a training may overwrite and delete, and which it goes on from.

A training deletes and overwrites what it has written itself and nothing else. What it has written stands in a record
beside the checkpoints: names of files in that folder, each with the size and the time of modification that it had. A
file that was put there by anybody else, or changed since, differs and is left alone. Paths that are stored in
checkpoints or in ``last_checkpoint`` decide nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmmim.utils import InputError
from mmmim.utils.atomic import remove_leftovers, write_text_atomically

from .files import save_checkpoint_file
from .reader import load_checkpoint_file

RECORD, POINTER = 'checkpoints.json', 'last_checkpoint'
#: Times of modification that differ by less, in seconds, are the same: they were stored as floating-point numbers.
_SAME_TIME = 1e-3


class CheckpointFolder:
    """Checkpoints in one folder.

    Args:
        path: The folder; it need not exist.
        template: How the checkpoints of a training are called, with ``{}`` for the iteration or epoch.
        pointer: The file that names the latest one; None for ``last_checkpoint`` in the folder.

    Raises:
        InputError: The template is none.
    """

    def __init__(
        self, path: str | os.PathLike, template: str = 'iter_{}.pth', pointer: str | os.PathLike | None = None
    ) -> None:
        self.path, self.template = Path(path), template
        self.pointer = self.path / POINTER if pointer is None else Path(pointer)
        parts = re.split(r'\{[^{}]*\}', template)
        if len(parts) != 2 or not _is_plain(template):
            raise InputError(
                f'filename_tmpl={template!r}: it is the name of a file with one {{}} for the number, such as '
                "'iter_{}.pth'."
            )
        self._pattern = f'{re.escape(parts[0])}(\\d+){re.escape(parts[1])}'
        #: By name, in the order of writing: the last two states, each size and time of modification.
        self._written: dict[str, list[list[float]]] = {}

    @classmethod
    def of_config(cls, work_dir: str, hook: Mapping[str, Any] | None) -> CheckpointFolder:
        """The folder that a training saves to.

        Args:
            work_dir: Work folder of the training.
            hook: The arguments of its checkpoint hook, of which ``out_dir``, ``filename_tmpl`` and ``by_epoch`` count.
        """
        options = dict(hook or {})
        out_dir = options.get('out_dir')
        if out_dir is not None and '://' in str(out_dir):
            raise InputError(f'out_dir={str(out_dir)!r} of the checkpoint hook: checkpoints go to local folders only.')
        path = work_dir
        if out_dir is not None and os.path.abspath(out_dir) != os.path.abspath(work_dir):
            path = os.path.join(out_dir, os.path.basename(os.path.abspath(work_dir)))
        template = options.get('filename_tmpl') or ('epoch_{}.pth' if options.get('by_epoch', True) else 'iter_{}.pth')
        return cls(path, template, os.path.join(work_dir, POINTER))

    # What this training has written.

    def take_over(self) -> None:
        """Go on as the training that has written the checkpoints of the record."""
        self._written = self._read_record()

    def owns(self, name: str) -> bool:
        """Whether this training has written the file of this name, and nobody has changed it."""
        return _fits(self._written, self.path, name)

    def steps(self) -> list[int]:
        """Iterations or epochs of the checkpoints of this training that are there, in the order of writing."""
        matches = {name: re.fullmatch(self._pattern, name) for name in self._written}
        return [int(match[1]) for name, match in matches.items() if match and self.owns(name)]

    def best(self, key: str) -> str | None:
        """The name of the best checkpoint by a score that this training has saved last, if it is there."""
        pattern = f'best_{re.escape(key.replace("/", "_"))}_{self._pattern}'
        names = [name for name in self._written if re.fullmatch(pattern, name) and self.owns(name)]
        return names[-1] if names else None

    def save(self, obj: Any, name: str) -> str | None:
        """Write a checkpoint atomically.

        Args:
            obj: Content of the checkpoint.
            name: Name of the file in the folder.

        Returns:
            What lay under this name, and this training has not written, has another name now: this one.

        Raises:
            InputError: The disk is full or the folder cannot be written.
        """
        if not _is_plain(name):
            raise InputError(f'{name!r} is no name of a checkpoint.')
        aside: list[str] = []

        def record(state: os.stat_result) -> None:
            if os.path.lexists(self.path / name) and not self.owns(name):
                aside.append(self._set_aside(name))
            before = self._written.pop(name, [])  # so that the order is that of writing
            self._written[name] = [*before[-1:], [state.st_size, state.st_mtime]]
            # Before the file gets its name: whenever the process is killed, the record knows what lies there.
            write_text_atomically(json.dumps({'written': self._written}, indent=1) + '\n', self.path / RECORD)

        save_checkpoint_file(obj, self.path / name, record)
        return aside[0] if aside else None

    def remove(self, name: str) -> bool:
        """Delete a checkpoint, if this training has written it; says whether it did."""
        if not self.owns(name):
            return False
        with contextlib.suppress(OSError):
            os.remove(self.path / name)
            return True
        return False

    def clean_up(self) -> list[str]:
        """Remove files that a killed process was still writing; returns their names."""
        named = (RECORD, POINTER, 'probes.json')
        removed = remove_leftovers(self.path, lambda name: name in named or self._is_checkpoint(name))
        if self.pointer.parent != self.path:
            removed += remove_leftovers(self.pointer.parent, named.__contains__)
        return removed

    def _set_aside(self, name: str) -> str:
        number = 0
        while os.path.lexists(self.path / (other := f'{name}.earlier{number or ""}')):
            number += 1
        os.rename(self.path / name, self.path / other)
        return other

    # What lies there.

    def used(self) -> list[str]:
        """The names of the checkpoints of trainings in the folder, best ones too."""
        found = {name for name in self._files() if self._is_checkpoint(name)}
        return sorted(found | {name for name in self._read_record() if os.path.lexists(self.path / name)})

    def find_latest(
        self, trust: bool = False, check: Callable[[dict[str, Any], str], None] | None = None
    ) -> tuple[str | None, list[str]]:
        """The newest checkpoint that loads.

        Args:
            trust: Whether to read files with pickled Python objects too, which can run any code.
            check: Called with what was read and its path; an :class:`InputError` of it makes that one unusable too.

        Returns:
            Its path, or None where no training has left a checkpoint; and what is to be said about the choice.

        Raises:
            InputError: There are checkpoints, and none of them can be resumed.
        """
        names, pointed = self._newest_first()
        broken: dict[str, str] = {}
        for name in names:
            try:
                checkpoint = load_checkpoint_file(self.path / name, trust=trust)
                if check is not None:
                    check(checkpoint, str(self.path / name))
            except InputError as error:
                broken[name] = str(error)
                continue
            remarks = [f'{error} Going on from {self.path / name} instead.' for error in broken.values()]
            if pointed != name and pointed not in broken:
                says = 'is missing' if pointed is None else f'names {pointed!a}, which is not the newest one there'
                remarks.append(f'{self.pointer} {says}: going on from {name}, the newest checkpoint that loads.')
            return str(self.path / name), remarks
        if broken:
            first, *others = broken.values()
            also = f' Nor does any other checkpoint there load: {", ".join(list(broken)[1:])}.' if others else ''
            raise InputError(f'{first}{also} To start anew, take another --work-dir.')
        if used := self.used():
            raise InputError(
                f'{self.path} holds no checkpoint that can be resumed, only {", ".join(used[:5])}: give the one to go '
                'on from (--resume CHECKPOINT), or take another --work-dir to start anew.'
            )
        if pointed is not None:
            raise InputError(
                f'{self.pointer} names {pointed!a}, and {self.path} has no checkpoint. Give the one to resume '
                '(--resume CHECKPOINT), or delete that file to start anew.'
            )
        return None, []

    def _newest_first(self) -> tuple[list[str], str | None]:
        """Names of checkpoints of a training, and the one that the pointer names; only files of the folder itself."""
        record, pointed = self._read_record(), self._pointed()
        written = [n for n in record if not n.startswith('best_') and _fits(record, self.path, n)]
        others = [n for n in self._files() if self._number(n) is not None and n not in written]
        if pointed in self._files() and pointed not in [*others, *written] and not str(pointed).startswith('best_'):
            others.append(str(pointed))
        others.sort(key=lambda n: self._number(n) or (False, -1), reverse=True)
        newest = self._number(written[-1]) if written else None
        # Of the record, the order of writing: trainings may have been resumed from an earlier checkpoint.
        later = [n for n in others if newest is not None and (self._number(n) or newest) > newest]
        return [*later, *reversed(written), *(n for n in others if n not in later)], pointed

    def _number(self, name: str) -> tuple[bool, int] | None:
        """What checkpoints are sorted by; None for other files."""
        own = re.fullmatch(self._pattern, name)
        match = own or re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', name)
        return (own is not None, int(match[1])) if match else None

    def _is_checkpoint(self, name: str) -> bool:
        if name.startswith('best_'):
            return re.fullmatch(rf'best_.+_(?:{self._pattern}|(?:iter|epoch)_(\d+)\.pth)', name) is not None
        return self._number(name) is not None

    def _files(self) -> list[str]:
        """Files of the folder; links count if they stay in it."""
        try:
            names = sorted(os.listdir(self.path))
            here = self.path.resolve()
            return [n for n in names if (self.path / n).is_file() and (self.path / n).resolve().parent == here]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise InputError(f'The folder {self.path} cannot be read: {error.strerror}.') from error

    def _pointed(self) -> str | None:
        """The name in ``last_checkpoint``, without the folder: it may be a copy of the one that it was written in."""
        content = _read(self.pointer)
        return None if content is None else re.split(r'[/\\]', content.decode(errors='surrogateescape').strip())[-1]

    def _read_record(self) -> dict[str, list[list[float]]]:
        try:
            written = json.loads(_read(self.path / RECORD) or '{}')['written']
            return {
                name: [[float(size), float(time)] for size, time in states]
                for name, states in written.items()
                if _is_plain(name)
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}  # of an earlier version, or damaged: then nothing there is this training's


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() else None  # no pipes
    except OSError:
        return None


def _is_plain(name: str) -> bool:
    return name not in ('', '.', '..') and not re.search(r'[/\\\x00]', name)


def _fits(written: Mapping[str, list[list[float]]], folder: Path, name: str) -> bool:
    """Whether a file is in one of the states that were written; links never are."""
    if name not in written:
        return False
    try:
        found = os.lstat(folder / name)
    except (OSError, ValueError):
        return False
    if not stat.S_ISREG(found.st_mode):
        return False
    return any(found.st_size == size and abs(found.st_mtime - time) < _SAME_TIME for size, time in written[name])
