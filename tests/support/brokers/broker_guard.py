"""A small process that ends what a test session started, in whatever way the session ends.

It reads what to do from a pipe, whose other end only the session holds: when the session is
gone, by Ctrl-C, SIGKILL or the end of a container's step, the pipe closes and the guard does it.
"""

import subprocess
import sys
from pathlib import Path
from typing import Final

# It looks at its parent as well: a forked child of the session may hold the pipe open for longer.
_PROGRAM: Final = """
import os, select, shutil, signal, sys, time
parent, pending, groups, folders = os.getppid(), b"", set(), set()
while os.getppid() == parent:
    if not select.select([0], [], [], 1.0)[0]:
        continue
    data = os.read(0, 65536)
    if not data:
        break
    *lines, pending = (pending + data).split(b"\\n")
    for line in lines:
        verb, _, what = line.decode().partition(" ")
        {"kill": groups.add, "forget": groups.discard, "remove": folders.add}[verb](what)
for group in groups:
    try:
        os.killpg(int(group), signal.SIGKILL)
    except ProcessLookupError:
        pass
for _ in range(20):  # the helpers of an Erlang machine end a moment after it, and may still write
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    if not any(map(os.path.exists, folders)):
        break
    time.sleep(0.1)
"""


class Guard:
    """The session's end of the pipe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _PROGRAM],
            stdin=subprocess.PIPE,
            start_new_session=True,  # a Ctrl-C for the session is not for the guard
        )

    def kill_at_end(self, group: int) -> None:
        """SIGKILL that process group at the end."""
        self._tell(f"kill {group}")

    def forget(self, group: int) -> None:
        """That group has ended: its number may belong to somebody else from now on."""
        self._tell(f"forget {group}")

    def remove_at_end(self, folder: Path) -> None:
        """Delete that folder at the end."""
        self._tell(f"remove {folder}")

    def _tell(self, line: str) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(f"{line}\n".encode())
        pipe.flush()

    def close(self) -> None:
        """Let the guard do what is left, and wait for it."""
        self._process.communicate(timeout=30.0)
