"""Progress of long work, with the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any


def reporter(unit: str, seconds: float = 5.0) -> Callable[[int, int], None]:
    """A function of how much is done and how much there is, that prints the time left.

    Args:
        unit: What is counted.
        seconds: Seconds between one line and the next; there is one at the end, too.
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
