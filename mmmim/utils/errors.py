"""The error of everything a user can get wrong."""

import re

from .names import printable


class InputError(ValueError):
    """What the user gave cannot be used: a file, a folder, an option, a config key.

    The message names the thing and the remedy in one or two lines; the command line tools print it without a stack
    trace and exit with status 2.

    Args:
        message: What is wrong and what to do. What is not printable in it is escaped, but for newlines: those of names
            from elsewhere are escaped by :func:`~mmmim.utils.names.printable` where the message is made. If the error
            crossed the process boundary of a data loader worker, torch prepends the worker's stack trace: only the
            message itself is kept.
    """

    def __init__(self, message: str) -> None:
        if 'DataLoader worker process' in message:
            message = re.split(r'\bInputError: ', message)[-1].strip()
        super().__init__(printable(message, keep='\n', longest=None))
