"""Files from the network: over https only, resumed where they broke off, checked before they get their name."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, Request, build_opener

from .atomic import disk_error
from .errors import InputError
from .names import printable

#: What addresses may begin with, those that a server redirects to as well.
SCHEMES: tuple[str, ...] = ('https',)
#: Seconds without an answer or a byte before a connection counts as broken, and before the next is tried.
TIMEOUT, PAUSE = 30.0, 1.0
#: Connections in a row that may break without a new byte.
TRIES = 3
#: Bytes of the largest file: a checkpoint of a ViT-g with both encoders and the moments of its optimiser is of 20 GB.
LARGEST = 32 * 2**30
_CHUNK = 1 << 20


class _Broken(Exception):
    """The connection broke; the next one goes on from there."""


def download(
    url: str, path: str | os.PathLike, check: Callable[[Path], Any] = lambda partial: None, largest: int = LARGEST
) -> None:
    """Download a file; ``path`` is there once all of it has come and has been checked.

    Until then the bytes lie in ``{path}.partial``, which another call goes on with if the server's file is still the
    same (by its ``ETag`` or date, kept in ``{path}.partial.tag``). Only one process may call it for a path.

    Args:
        url: Address of the file. The server decides neither about its name nor about its place.
        path: Where the file goes; its folder exists.
        check: Called with the whole ``.partial``; what it raises ends the download, and the bytes are deleted.
        largest: Most bytes of a file.

    Raises:
        InputError: The server cannot be reached, has no such file, or has one that is too large, of unknown length or
            a page; the disk is full; or ``url`` or a redirection is not https.
    """
    path = Path(path)
    partial, tag = path.with_name(f'{path.name}.partial'), path.with_name(f'{path.name}.partial.tag')
    _check_scheme(url)
    opener = build_opener(_Redirects())
    failures = 0
    while True:
        before = _size(partial)
        try:
            _transfer(opener, url, partial, tag, largest)
            break
        except _Broken as broken:
            failures = failures + 1 if _size(partial) <= before else 0
            if failures >= TRIES:
                kept = _size(partial)
                again = f' {kept:,} bytes are kept: the same command goes on from there.' if kept else ''
                raise InputError(f'{url} broke off ({broken}).{again}') from broken
            time.sleep(PAUSE)
    try:
        check(partial)
    except BaseException:
        _remove(partial, tag)
        raise
    os.replace(partial, path)
    _remove(tag)


class _Redirects(HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: str) -> Any:
        _check_scheme(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_scheme(url: str) -> None:
    if urlsplit(url).scheme not in SCHEMES:
        raise InputError(f'{printable(url)} is not downloaded: addresses begin with {" or ".join(SCHEMES)}://.')


def _transfer(opener: OpenerDirector, url: str, partial: Path, tag: Path, largest: int) -> None:
    """One connection: from where ``partial`` ends to the end of the file."""
    start = _size(partial) if tag.is_file() else 0
    # A server that packs would send other bytes than those of the file.
    headers = {'Accept-Encoding': 'identity', 'User-Agent': 'mmmim'}
    if start:
        headers |= {'Range': f'bytes={start}-', 'If-Range': tag.read_text(encoding='latin-1')}
    try:
        answer = opener.open(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and start:  # nothing follows: it was whole, or is another file by now
            if error.headers.get('Content-Range') == f'bytes */{start}':
                return
            _remove(partial, tag)
            raise _Broken('the kept part does not fit') from error
        if error.code in (408, 429) or error.code >= 500:
            raise _Broken(f'status {error.code}') from error
        raise InputError(f'{url} cannot be had: the server says {error.code} {printable(error.reason)}.') from error
    except URLError as error:
        if start:
            raise _Broken(str(error.reason)) from error
        raise InputError(f'{url} cannot be reached: {error.reason}.') from error
    except (OSError, HTTPException) as error:
        raise _Broken(_words(error)) from error
    with answer:
        start, total = _extent(url, answer, start, largest)
        if (free := shutil.disk_usage(partial.parent).free) < total - start:
            raise InputError(
                f'{partial.parent} has {free:,} bytes left, and {total - start:,} of {url} are to come: make room, or '
                'choose another folder by MMMIM_HOME.'
            )
        mark = _validator(answer.headers)
        try:
            if mark is None:  # nothing would tell whether what comes later is of the same file
                _remove(tag)
            else:
                tag.write_text(mark, encoding='latin-1')
            with open(partial, 'r+b' if start else 'wb') as file:
                file.truncate(start)
                file.seek(start)
                _copy(answer, file, start, total, partial.name.removesuffix('.partial'))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise InputError(f'{partial} cannot be written: {disk_error(error)}.') from error
    if (size := _size(partial)) != total:
        raise _Broken(f'after {size:,} of {total:,} bytes')


def _extent(url: str, answer: Any, asked: int, largest: int) -> tuple[int, int]:
    """Where the bytes of an answer begin, and how many the file has.

    Raises:
        InputError: The file is too large, of unknown length, or a page.
    """
    kind = answer.headers.get_content_type()
    if kind == 'text/html':
        raise InputError(f'{url} is a page, not a file: open it in a browser.')
    part = re.fullmatch(r'bytes (\d+)-\d+/(\d+)', answer.headers.get('Content-Range', ''))
    length = answer.headers.get('Content-Length', '')
    if answer.status == 206:
        if part is None or int(part[1]) != asked:
            raise InputError(f'{url}: the server sent another part of the file than it was asked for.')
        start, total = asked, int(part[2])
    elif length.isdecimal():
        start, total = 0, int(length)
    else:
        raise InputError(f'{url}: the server does not say how long the file is.')
    if total > largest:
        raise InputError(f'{url} has {total:,} bytes, more than {largest:,}: it cannot be what was asked for.')
    return start, total


def _validator(headers: Any) -> str | None:
    """What tells a later connection that the file is the same; None without it."""
    mark = headers.get('ETag')
    return mark if mark and not mark.startswith('W/') else headers.get('Last-Modified')


def _copy(answer: Any, file: IO[bytes], done: int, total: int, name: str) -> None:
    """Write what comes, with a bar."""
    # Part of mmengine's requirements; on stderr, since what a tool prints may be read by another.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = ('{task.description}', BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(name, completed=done, total=total)
        while done < total:
            try:
                # Whatever has come: `read` would wait until a whole chunk is there.
                part = answer.read1(min(_CHUNK, total - done))
            except (OSError, HTTPException) as error:
                raise _Broken(_words(error)) from error
            if not part:
                return
            file.write(part)
            done += len(part)
            progress.update(task, completed=done)


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _remove(*paths: Path) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()
