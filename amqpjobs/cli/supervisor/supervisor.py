"""A parent over worker processes: restarts what dies, forwards signals, reloads on changes.

It runs no event loop and no job, so that it cannot die of one. Changes when supervising does.
"""

import logging
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from amqpjobs.cli.ending import RECYCLED, Deadline
from amqpjobs.cli.supervisor.notify_relay import Signs
from amqpjobs.errors import ConfigurationError
from amqpjobs.telemetry.health.heartbeat_file import file_of, files_of

if TYPE_CHECKING:
    from amqpjobs.settings import Settings

log = logging.getLogger("amqpjobs.supervisor")

GRACE = 1.5
"""Seconds beyond the shutdown budget before a child that does not end is killed."""

HEALTHY = 10.0
"""Seconds. A child that lives longer is restarted at once, a shorter-lived one after a pause."""

TICK = 0.2
"""Seconds between two looks at the children."""


class Supervisor:
    """Keeps a number of identical child processes running until a signal comes.

    Args:
        command: what a child runs.
        count: how many children.
        environment: variables for them, beyond this process's own.
        settings: for the shutdown budget.
        reload: restart them when a Python file below the current folder changes.
        until_empty: a child that ends with status 0 is not replaced, and when all have, so does
            this.
        metrics_port: where the first child serves its metrics; each other has the next one. None
            for nowhere, 0 for any that is free.

    Attributes:
        budget: seconds from a signal to the end of all.

    Raises:
        ConfigurationError: there are not so many ports.
    """

    def __init__(
        self,
        command: list[str],
        count: int,
        environment: Mapping[str, str],
        settings: "Settings",
        *,
        reload: bool = False,
        until_empty: bool = False,
        metrics_port: int | None = None,
    ) -> None:
        self._command = command
        self._environment = {**os.environ, **environment}
        self.budget = settings.shutdown_timeout + GRACE
        self._own = [_metrics_at(metrics_port, place) for place in range(count)]
        self._children = [_Child() for _ in range(count)]
        self._heartbeat = settings.heartbeat_file
        self._reload, self._until_empty = reload, until_empty
        self._stopped_at: float | None = None
        # Else nobody listens, and the children would tell systemd what only their parent knows.
        self._signs = Signs(count) if os.environ.get("NOTIFY_SOCKET") else None

    def run(self, deadline: Deadline | None = None) -> int:
        """Supervise until told to stop.

        Args:
            deadline: ends this process, which may stand still too, in a write to a log that nobody
                reads.

        Returns:
            The exit status: 0, or a child's if it could not even start.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if deadline is not None:
            deadline.hear()
        stamps = dict(_python_files()) if self._reload else {}
        self._forget_heartbeats()
        try:
            while True:
                status = self._tend()
                if status is not None:
                    return status
                if self._reload and self._stopped_at is None:
                    stamps = self._restart_on_change(stamps)
                if self._signs is not None:
                    alive = [child.alive for child in self._children]
                    self._signs.look(alive, stopping=self._stopped_at is not None)
                time.sleep(TICK)
        finally:
            for child in self._children:
                child.end(0)
            if self._signs is not None:
                if self._stopped_at is not None:
                    self._signs.stop()  # all may have ended before the next look
                self._signs.close()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stopped_at = self._stopped_at or time.monotonic()
        # A terminal's Ctrl-C does not reach the children, which have sessions of their own: each
        # signal is passed on once, so that the second one hurries them as it would a worker.
        for child in self._children:
            child.send(signal.SIGTERM)

    def _tend(self) -> int | None:
        """Look after each child; the exit status when all is over."""
        stopping = self._stopped_at is not None
        for place, child in enumerate(self._children):
            if child.alive:
                continue
            status = child.take_status()
            if status is not None and not stopping:
                if self._is_hopeless(child, status):
                    self._stop_all()
                    return status
                self._ended(child, status)
            if not stopping and child.may_start():
                self._start(child, place)
        if self._stopped_at is None:
            return 0 if all(child.finished for child in self._children) else None
        late = time.monotonic() - self._stopped_at > self.budget
        if late:
            for child in self._children:
                child.end(0)
        return 0 if late or not any(c.alive for c in self._children) else None

    def _is_hopeless(self, child: "_Child", status: int) -> bool:
        """Usage, or no broker at start: the next one would say the same."""
        return status in (2, 3) and not child.was_healthy and not (self._reload and status == 2)

    def _ended(self, child: "_Child", status: int) -> None:
        """A child has ended that nobody has told to stop."""
        if self._reload and status == 2:
            # A file that does not compile, most likely: the next change may fix it.
            child.may_start_at = math.inf
        elif status == 0 and self._until_empty:
            child.finished, child.may_start_at = True, math.inf
        elif status == RECYCLED:
            child.recycle()
            log.info("worker process recycled, starting another")
        else:
            keys = {"status": status, "signal": _signal_name(status)}
            log.error("worker process died, starting another", extra=keys)

    def _start(self, child: "_Child", place: int) -> None:
        child.start(self._command, self._environment_of(place))
        if self._stopped_at is not None:
            child.send(signal.SIGTERM)  # told to stop while this one was being started

    def _environment_of(self, place: int) -> dict[str, str]:
        """What the process in that place is told, and no other."""
        own = self._environment | self._own[place]
        if self._heartbeat is not None:
            own["AMQPJOBS_HEARTBEAT_FILE"] = str(file_of(self._heartbeat, place))
        return own if self._signs is None else own | self._signs.environment(place)

    def _forget_heartbeats(self) -> None:
        """Those of processes that were killed: they would stay behind where there are fewer now."""
        if self._heartbeat is None:
            return
        with suppress(OSError):  # who cannot delete them cannot write them either, and says so
            self._heartbeat.unlink(missing_ok=True)
            for file in files_of(self._heartbeat):
                file.unlink(missing_ok=True)

    def kill_all(self) -> None:
        """Kill the children. From any thread."""
        for child in self._children:
            child.send(signal.SIGKILL)

    def _stop_all(self) -> None:
        for child in self._children:
            child.send(signal.SIGTERM)
        for child in self._children:
            child.end(self.budget)

    def _restart_on_change(self, stamps: dict[Path, float]) -> dict[Path, float]:
        now = dict(_python_files())
        if now == stamps:
            return stamps
        changed = {p for p, _ in now.items() ^ stamps.items()}
        log.info("files changed, restarting", extra={"files": sorted(map(str, changed))[:5]})
        for child in self._children:
            child.send(signal.SIGTERM)
        for child in self._children:
            child.end(self.budget)
            child.take_status()
            child.may_start_at = 0.0
        return now


class _Child:
    """One place for a process, over the processes that fill it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._failures = 0
        self.may_start_at = 0.0
        self.was_healthy = self.finished = False

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command, env=environment, start_new_session=True
        )
        self._started_at = time.monotonic()

    def take_status(self) -> int | None:
        """The exit status of a process that has ended, once."""
        if self._process is None:
            return None
        status = self._process.returncode
        self._process = None
        self.was_healthy = time.monotonic() - self._started_at > HEALTHY
        self._failures = 0 if self.was_healthy else self._failures + 1
        pause = 0.0 if self.was_healthy else min(30.0, 0.5 * 2 ** (self._failures - 1))
        self.may_start_at = time.monotonic() + pause
        return status

    def recycle(self) -> None:
        """Its process has ended on purpose, which is no failure: the next may start at once."""
        self._failures, self.may_start_at = 0, 0.0

    def may_start(self) -> bool:
        return time.monotonic() >= self.may_start_at

    def send(self, number: int) -> None:
        if self.alive and self._process is not None:
            self._process.send_signal(number)

    def end(self, timeout: float) -> None:
        """Wait for its end, then kill it."""
        if self._process is None:
            return
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def child_command(
    queues: list[str], options: Mapping[str, object], *, until_empty: bool = False
) -> list[str]:
    """The command line of one worker, with these options where they are not None. The URL goes by
    the environment: it has a password."""
    command = [sys.executable, "-m", "amqpjobs", "consume", *queues]
    for name, value in options.items():
        if value is not None:
            command += [f"--{name}", str(value)]
    return [*command, "--until-empty"] if until_empty else command


def _metrics_at(port: int | None, place: int) -> dict[str, str]:
    if port is None:
        return {}
    own = port + place if port else 0
    if own > 65535:
        raise ConfigurationError(
            f"--metrics-port {port}: each process serves its own metrics, the next one at the next "
            "port, and there are not so many above it"
        )
    return {"AMQPJOBS_METRICS_PORT": str(own)}


def _python_files() -> Iterator[tuple[Path, float]]:
    for folder, folders, files in os.walk("."):
        folders[:] = [f for f in folders if not f.startswith((".", "__pycache__", "node_modules"))]
        for name in files:
            if name.endswith(".py"):
                path = Path(folder, name)
                try:
                    yield path, path.stat().st_mtime
                except FileNotFoundError:
                    continue


def _signal_name(status: int) -> str | None:
    return signal.Signals(-status).name if status < 0 else None
