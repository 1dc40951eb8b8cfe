"""A terminal with a program on it, and a person who reads."""

import os
import pty
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path


class Terminal:
    """A program that runs on a terminal; read all the time, since it would wait for a reader.

    Args:
        command: what runs.
        env: its environment.
        cwd: its folder.
        typing: whether the person types as well: the terminal is the program's standard input, and
            sends it Ctrl-C.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], cwd: Path, *, typing: bool = False
    ) -> None:
        self._ours, theirs = pty.openpty()
        if typing:
            command = ["setsid", "--ctty", "--wait", *command]
        self.program = subprocess.Popen(
            command, cwd=cwd, stdin=theirs if typing else subprocess.DEVNULL, stdout=theirs,
            stderr=subprocess.STDOUT,
            env={**env, "TERM": "xterm", "COLUMNS": "160", "LINES": "50"},
        )  # fmt: skip
        os.close(theirs)
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # the program has ended
            while data := os.read(self._ours, 65536):
                self._seen += data

    @property
    def seen(self) -> str:
        """All that it has shown."""
        return self._seen.decode(errors="replace")

    def type(self, keys: str) -> None:
        """Press these keys."""
        os.write(self._ours, keys.encode())

    def wait_for(self, word: str, timeout: float = 20.0) -> str:
        """All that it has shown, once this word is in it."""
        deadline = time.monotonic() + timeout
        while word not in self.seen:
            assert time.monotonic() < deadline, self.seen
            time.sleep(0.05)
        return self.seen

    def close(self) -> None:
        """Kill what still runs."""
        if self.program.poll() is None:
            self.program.kill()
        self.program.wait(10)
        self._reader.join(10)
        os.close(self._ours)
