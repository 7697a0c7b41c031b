"""Names from elsewhere in messages: of files, members of archives, URLs."""

from __future__ import annotations

import logging
import os
from typing import Any

#: Longer names are cut in the middle.
_LONGEST = 500


def printable(name: str | os.PathLike | Any, keep: str = '', longest: int | None = _LONGEST) -> str:
    """A name as one harmless line: what is no printable character becomes an escape.

    File names may hold nearly anything. Newlines would forge lines of a log, control characters command a terminal,
    directions of writing (bidi) show another name than there is, and bytes that are no UTF-8, which Python keeps as
    surrogates, cannot be written at all.

    Args:
        name: Any object, as ``str`` shows it.
        keep: Characters that stay, such as the newlines of a whole message.
        longest: Characters; of longer names the middle is left out. None: however long.

    Returns:
        The same text where all of it is printable.
    """
    text = str(name)
    if longest is not None and len(text) > longest:
        text = f'{text[: longest // 2]} ... {text[-longest // 2 :]}'
    if text.isprintable():
        return text
    return ''.join(c if c.isprintable() or c in keep else c.encode('unicode_escape').decode('ascii') for c in text)


class PrintableRecords(logging.Filter):
    """Makes the messages of a log handler printable, but for their line breaks."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the message where it needs to be."""
        message = record.getMessage()
        shown = printable(message, keep='\n\t', longest=None)
        if shown != message:
            record.msg, record.args = shown, ()
        return True


def forgive(stream: Any, encoding: str | None = None) -> None:
    """Let a text stream escape what its encoding cannot write, such as names of files under LANG=C, instead of failing.

    Args:
        stream: ``sys.stdout`` or the like; others are left alone.
        encoding: Encoding to write in from now on; None to keep it.
    """
    if hasattr(stream, 'reconfigure'):
        stream.reconfigure(errors='backslashreplace', **({'encoding': encoding} if encoding else {}))


def forgive_logger(logger: logging.Logger) -> None:
    """Let the handlers of a logger write any message, in one line where it is one, and files as UTF-8."""
    for handler in logger.handlers:
        if not any(isinstance(known, PrintableRecords) for known in handler.filters):
            handler.addFilter(PrintableRecords())
        if isinstance(handler, logging.StreamHandler):
            forgive(handler.stream, 'utf-8' if isinstance(handler, logging.FileHandler) else None)
