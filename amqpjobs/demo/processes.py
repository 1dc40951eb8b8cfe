"""The processes of the show: workers and a web tier, each started by its command line.

Changes when another one takes part.
"""

import asyncio
import json
import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from amqpjobs.demo.album import thumbnails
from amqpjobs.errors import AmqpJobsError

APP = "amqpjobs.demo.album:app"
CONSUME = ("consume", thumbnails.name, "--app", APP, "--concurrency", "1")
WEB = ("web", "--app", APP, "--asgi", "amqpjobs.demo.web:api")

# What is killed with SIGKILL must not leave them behind.
BOOT = (
    "import signal; from amqpjobs.worker.execution.parent_death import die_with; "
    "die_with({parent}, signal.SIGTERM); from amqpjobs.cli.main import main; main()"
)

STOP_TIMEOUT = 12.0
"""Seconds from SIGTERM to the end; each promises eight."""

LOOK = 0.1
"""Seconds between two looks into a log."""


class ShowFailed(AmqpJobsError):
    """The show cannot go on; says what has ended, and its last words."""


class Process:
    """One of them. Its log goes into a file.

    Args:
        name: for people.
        arguments: of ``amqpjobs``.
        log: the file.
        variables: of its environment, beside ours.
        ready: the line of the log that says that it is.
    """

    def __init__(
        self,
        name: str,
        arguments: tuple[str, ...],
        log: Path,
        variables: Mapping[str, str],
        ready: str,
    ) -> None:
        self.name = name
        self._arguments = arguments
        self._log = log
        self._variables = {**os.environ, **variables, "AMQPJOBS_LOG_FORMAT": "json"}
        self._ready = ready
        self._process: asyncio.subprocess.Process | None = None

    def __repr__(self) -> str:
        return f"<Process {self.name}: {self.pid}>"

    @property
    def pid(self) -> int | None:
        """Of its process; None before it is started."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start it, in a session of its own: a terminal's Ctrl-C is for the show to handle."""
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", BOOT.format(parent=os.getpid()), *self._arguments,
                env=self._variables, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    async def ready(self) -> None:
        """Wait until it is at work.

        Raises:
            ShowFailed: it has ended.
        """
        while not self._has_said_so():
            self.check()
            await asyncio.sleep(LOOK)

    def _has_said_so(self) -> bool:
        lines = self._log.read_text(errors="replace").splitlines()
        # Else it is still being written, or none of ours.
        whole = (line for line in lines if line.startswith("{") and line.endswith("}"))
        return any(json.loads(line).get("event") == self._ready for line in whole)

    def check(self) -> None:
        """See that it is there.

        Raises:
            ShowFailed: it has ended.
        """
        if self._process is not None and self._process.returncode is not None:
            last = (self._log.read_text(errors="replace").splitlines() or ["no word"])[-1]
            raise ShowFailed(f"{self.name} has ended: {last}")

    async def stop(self) -> None:
        """Stop it as deployments do, by SIGTERM; kill it if that does not end it."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_TIMEOUT):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def free_port(wanted: int) -> int:
    """This port of loopback, or another one where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            free: int = probe.getsockname()[1]
            return free
    raise ShowFailed("there is no free port on loopback")
