"""What a reader must not do, done by one: that the watch sees it."""

import importlib  # noqa: F401
import os  # noqa: F401
import pathlib  # noqa: F401
import pickle  # noqa: F401
import random
import socket  # noqa: F401
import subprocess  # noqa: F401
import sys  # noqa: F401
import time  # noqa: F401
from collections.abc import Callable
from typing import Any

#: What a reader might do, and what is said of it. The last one ends the process.
HARM = {
    'open("there", "w").close()': 'writing of',
    'os.open("there", os.O_RDWR | os.O_CREAT)': 'writing of',
    'open("secret.pth").close()': 'reading of',
    'os.system("true")': 'os.system',
    'subprocess.run(["true"])': 'subprocess.Popen',
    'os.remove("secret.npy")': 'os.remove',
    'os.rename("secret.pkl", "there")': 'os.rename',
    'socket.socket().connect_ex(("127.0.0.1", 9))': 'socket.connect',
    'importlib.import_module("evil_module")': 'import of evil_module',
    'pickle.loads(pickle.dumps(pathlib.PurePath()))': 'pickle.find_class',
    'int("x")': 'ValueError: invalid literal',
    'sys.exit(0)': 'SystemExit',
    'time.sleep(9)': 'no end within 1 s',
    'held.append(b"x" * 1_200_000_000)': ' MB',
    'os.kill(os.getpid(), 11)': '',
}
held: list[bytes] = []


class Harm:
    """A reader of files that are fine."""

    SECONDS = 1

    def __init__(self) -> None:
        self.codes = [None] * 3 + list(HARM)  # three cases are not watched

    def case(self, rng: random.Random) -> tuple[dict[str, bytes], Callable[[], Any]]:
        """The next harm."""
        code = self.codes.pop(0)

        def read() -> None:
            open('case.x').close()
            if code:
                exec(code, globals())

        return {'case.x': b'x'}, read
