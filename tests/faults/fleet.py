"""Real worker processes: started, told to stop, killed, frozen, and what they logged."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.faults.jobs import LEDGER
from tests.faults.ledger import Ledger
from tests.support.transport import reach_by_environment

ROOT: Final = Path(__file__).parents[2]
START_TIMEOUT: Final = 40.0
"""Seconds until a worker is ready: about one on an idle machine."""


async def until(
    condition: Callable[[], object],
    timeout: float,
    what: str,
    state: Callable[[], object] | None = None,
) -> float:
    """Wait for a condition; how many seconds it took.

    Args:
        what: is waited for.
        state: how it stands, for the error.

    Raises:
        AssertionError: it did not come true in time.
    """
    began = time.monotonic()
    while not condition():
        took = time.monotonic() - began
        now = f"; {state()}" if state and took >= timeout else ""
        assert took < timeout, f"not within {timeout:g} s: {what}{now}"
        await asyncio.sleep(0.05)
    return time.monotonic() - began


class WorkerProcess:
    """One `python -m amqpjobs consume`, a child of the test."""

    def __init__(
        self,
        name: str,
        command: list[str],
        environment: dict[str, str],
        folder: Path,
        output: int | None = None,
    ) -> None:
        self.name = name
        self.log_file = folder / f"{name}.log"
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log if output is None else output,
                stderr=subprocess.STDOUT,
            )
        self.frozen = False

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.name}, pid {self.pid}, status {self._process.poll()}>"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def resident(self) -> int:
        """Bytes of resident memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def events(self, event: str) -> list[dict[str, Any]]:
        """The log lines of an event."""
        return [line for line in self.lines() if line.get("event") == event]

    def lines(self) -> Iterator[dict[str, Any]]:
        """All log lines; what is not JSON (a traceback, say) as `text`."""
        # Not splitlines: what strangers wrote may hold U+0085, which is no end of a JSON line.
        for line in filter(None, self.log_file.read_text(errors="replace").split("\n")):
            try:
                yield json.loads(line)
            except ValueError:
                yield {"event": "", "text": line}

    def trouble(self) -> list[dict[str, Any]]:
        """What a worker must never log: bugs of its own, and what is no log line at all."""
        return [
            line
            for line in self.lines()
            if "text" in line or line.get("level") == "critical" or "bug" in line["event"]
        ]

    def send(self, number: signal.Signals) -> None:
        if self.running:
            self._process.send_signal(number)
            self.frozen = number == signal.SIGSTOP

    async def ended(self, timeout: float) -> int:
        """Wait for its end; the exit status."""
        await until(lambda: not self.running, timeout, f"the end of {self!r}")
        return self._process.returncode

    async def ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait until it consumes everything."""

        def is_ready() -> bool:
            assert self.running, f"{self!r} ended at its start:\n{self.tail()}"
            return bool(self.events("worker is ready"))

        await until(is_ready, timeout, f"{self!r} is ready:\n{self.tail()}")

    def tail(self, lines: int = 30) -> str:
        """The end of its log."""
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def end(self) -> None:
        """End it at once, and reap it."""
        if self.running:
            self._process.kill()
        self._process.wait(30)


class Fleet:
    """The workers of one test."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._count = 0
        self.all: list[WorkerProcess] = []

    def launch(
        self,
        url: str,
        *queues: str,
        concurrency: int = 4,
        prefetch: int = 8,
        prefix: tuple[str, ...] = (),
        options: tuple[str, ...] = (),
        app: str = "tests.faults.jobs:app",
        output: int | None = None,
        **environment: object,
    ) -> WorkerProcess:
        """Start a worker, and return at once.

        Args:
            prefix: a command to run it by.
            options: more of `consume`'s.
            output: a descriptor for its log, in place of its file.
            environment: variables, such as ``AMQPJOBS_HEARTBEAT=2``.
        """
        command = [
            *prefix, sys.executable, "-m", "amqpjobs", "consume", *queues, "--app", app,
            "--concurrency", str(concurrency), "--prefetch", str(prefetch), *options,
        ]  # fmt: skip
        return self._launch("worker", url, command, environment, output)

    def launch_other(
        self,
        name: str,
        url: str,
        *options: str,
        app: str = "tests.faults.jobs:app",
        **environment: object,
    ) -> WorkerProcess:
        """Start `amqpjobs NAME`, such as a recorder, and return at once."""
        command = [sys.executable, "-m", "amqpjobs", name, "--app", app, *options]
        return self._launch(name, url, command, environment)

    def _launch(
        self,
        kind: str,
        url: str,
        command: list[str],
        environment: dict[str, object],
        output: int | None = None,
    ) -> WorkerProcess:
        variables = {
            **{k: v for k, v in os.environ.items() if not k.startswith("AMQPJOBS_")},
            **reach_by_environment(url),
            LEDGER: str(self._ledger.effects_file),
            **{k: str(v) for k, v in environment.items()},
        }
        self._count += 1
        name = f"{kind}-{self._count}"
        worker = WorkerProcess(name, command, variables, self._ledger.folder, output)
        self._ledger.tell(f"{name} launched, pid {worker.pid}")
        self.all.append(worker)
        return worker

    async def start(self, url: str, *queues: str, **options: Any) -> WorkerProcess:
        """Start a worker, and wait until it consumes."""
        worker = self.launch(url, *queues, **options)
        await worker.ready()
        return worker

    async def stop(self, timeout: float = 20.0) -> None:
        """Tell all to stop, and see that each ends well."""
        running = [w for w in self.all if w.running]
        for worker in running:
            worker.send(signal.SIGTERM)
        for worker in running:
            status = await worker.ended(timeout)
            assert status == 0, f"{worker!r}:\n{worker.tail()}"

    def trouble(self) -> list[dict[str, Any]]:
        """What no worker must ever log."""
        return [line for worker in self.all for line in worker.trouble()]


@contextmanager
def fleet(ledger: Ledger) -> Iterator[Fleet]:
    """Workers that end with the test, however it ends."""
    workers = Fleet(ledger)
    try:
        yield workers
    finally:
        for worker in workers.all:
            worker.end()
