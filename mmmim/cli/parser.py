"""The command line parser of all tools."""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Sequence
from typing import Any


class ToolParser(argparse.ArgumentParser):
    """argparse's, whose options are not abbreviated and whose errors say where an option took a word meant for another.

    ``--cfg-options KEY=VALUE CONFIG`` is understood as it is written: CONFIG belongs to the option, and is then missed
    in its own place. ``--amp CONFIG`` and ``--resume CONFIG`` mean the options without a value, where CONFIG is a file
    that can be none.

    Args:
        intermixed: Whether arguments may follow options that stand between them.
        kwargs: Further arguments of ``argparse.ArgumentParser``.
    """

    def __init__(self, intermixed: bool = False, **kwargs: Any) -> None:
        super().__init__(**{'allow_abbrev': False, **kwargs})
        self._intermixed = intermixed
        self._words: list[str] = []

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, intermixed where the parser is so."""
        return self.parse_intermixed_args(args, namespace) if self._intermixed else super().parse_args(args, namespace)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, remembering the words."""
        words = self._told_apart(list(sys.argv[1:] if args is None else args))
        # Of intermixed arguments the second round parses what the first has left.
        self._words = max(self._words, words, key=len)
        return super().parse_known_args(words, namespace)

    def _told_apart(self, words: Sequence[str]) -> list[str]:
        """The words, with the value of an option written out that may lack one and has a config behind it."""
        result = list(words)
        for place, (word, following) in enumerate(itertools.pairwise(words)):
            action = self._option_string_actions.get(word)
            if action is not None and action.nargs == '?' and action.const is not None and following.endswith('.py'):
                result[place] = f'{word}={action.const}'
        return result

    def error(self, message: str) -> Any:
        """End with status 2; a word that an option took is pointed at where it explains the message."""
        named = re.match(r'argument (\S+): (?!expected )', message)
        taken = self._taken(self._words)
        if named is not None:  # a value of this option is wrong: is it one at all?
            taken = {name: words for name, words in taken.items() if name in named[1].split('/')}
            action = self._option_string_actions.get(named[1].split('/')[0])
            first = self._words[0].startswith('-')
            words = [word for follow in taken.values() for word in follow]
            if action is None or not (first or action.nargs in ('+', '*')) or all(map(_is_number, words)):
                taken = {}
        elif 'arguments are required' not in message:
            taken = {}
        places = ' '.join(str(a.metavar or a.dest) for a in self._actions if not a.option_strings)
        if taken and places:
            takers = '; '.join(f'{name} took {" ".join(words)}' for name, words in taken.items())
            message = (
                f'{message.rstrip(".")}. An option takes all the words behind it that it can ({takers}): write '
                f'{places} before the options.'
            )
        super().error(message)

    def _taken(self, words: Sequence[str]) -> dict[str, list[str]]:
        """The words after options that take any number of them, or one that looks like a config."""
        taken: dict[str, list[str]] = {}
        for place, word in enumerate(words):
            action = self._option_string_actions.get(word)
            if action is None or action.nargs == 0:
                continue
            follow = list(itertools.takewhile(lambda text: not text.startswith('--'), words[place + 1 :]))
            if action.nargs in ('?', None):
                follow = [text for text in follow[:1] if action.nargs == '?' or text.endswith('.py')]
            if follow:
                taken[word] = follow
        return taken


def _is_number(word: str) -> bool:
    return re.fullmatch(r'[-+.\de]*\d[-+.\de]*', word) is not None
