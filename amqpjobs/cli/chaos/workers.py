"""Workers that are there to be killed, and what their logs say. Changes when more is read there.

A job's effects are known by its log line, which a worker writes before the job's ack leaves: what
is acked has been told.
"""

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amqpjobs.broker.rabbitmq.connection import LOST
from amqpjobs.errors import AmqpJobsError
from amqpjobs.telemetry.health.heartbeat import NOT_HEALTHY
from amqpjobs.worker.stalled import STALLED

NO_END = frozenset({"retried", "snoozed", "released", "superseded", "waiting"})
"""Outcomes after which the job, or its copy, is to run again."""

OWN_ENDS = frozenset({"done", "expired", "parked"})
"""Outcomes that count by their own names; any other end is the dead letters."""


class Effects:
    """What became of the jobs, over all workers."""

    def __init__(self) -> None:
        self.ends: dict[str, Counter[str]] = {}
        self.lines = 0

    def note(self, line: Mapping[str, Any]) -> None:
        """Count a log line, if it is that of a job that has come to its end."""
        outcome, job = line.get("outcome"), line.get("job_id")
        self.lines += 1
        if isinstance(outcome, str) and isinstance(job, str) and outcome not in NO_END:
            name = outcome if outcome in OWN_ENDS else "dead"
            self.ends.setdefault(job, Counter())[name] += 1


class Victim:
    """One ``amqpjobs consume``, a child of this process with a session of its own.

    Args:
        name: for people.
        command: what to run.
        environment: all its variables.
        folder: where its log goes.
        note: called with each line of its log, as JSON.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        note: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.name = name
        self.ready = False
        self.freezes = 0
        self.losses = 0
        self.proxied = False
        self.stalled = False
        self.log = folder / f"{name}.log"
        self._note = note
        self._read = 0
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                list(command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def cut_off(self) -> int:
        """How often it lost its connection without having been frozen: a machine too busy for
        heartbeats, or a broker that restarts, say. What it had runs elsewhere, too."""
        return max(0, self.losses - self.freezes)

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self.status is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, frozen or not."""
        self.send(signal.SIGKILL)
        self._process.wait()

    def follow(self) -> None:
        """Read what is new in its log, whole lines only."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            whole = log.read().rpartition(b"\n")[0]
        if not whole:
            return
        self._read += len(whole) + 1
        for text in whole.split(b"\n"):
            try:
                line = json.loads(text)
            except ValueError:
                continue  # what a handler prints
            if isinstance(line, dict):
                self.ready = self.ready or line.get("event") == "worker is ready"
                self.losses += line.get("event") == LOST and line.get("purpose") == "consume"
                self.stalled = self.stalled or _is_stalled(line)
                self._note(line)

    def refused(self) -> AmqpJobsError:
        """The error for one that ended before it was ready."""
        said = self.log.read_text(errors="replace").strip().splitlines()[-1:]
        return AmqpJobsError(f"a worker ended at its start, status {self.status}: {said}")


def _is_stalled(line: Mapping[str, Any]) -> bool:
    """Whether a worker says that it holds jobs and starts none."""
    return line.get("event") == NOT_HEALTHY and str(line.get("state")).startswith(STALLED)


@contextmanager
def undisturbed() -> Iterator[None]:
    """SIGINT and SIGTERM wait until the end of this, and are a `KeyboardInterrupt` then.

    One between the start of a process and the note of it would leave a worker that nobody ends.
    """
    came: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt


def victim_environment(url: str) -> dict[str, str]:
    """The variables of a worker that is to be frozen and killed.

    Heartbeats of 2 s, so that RabbitMQ misses a frozen one within seconds; JSON lines, to be read
    here; no heartbeat file, which all of them would write.
    """
    kept = {k: v for k, v in os.environ.items() if k != "AMQPJOBS_HEARTBEAT_FILE"}
    return kept | {
        "AMQPJOBS_URL": url,
        "AMQPJOBS_HEARTBEAT": "2",
        "AMQPJOBS_LOG_FORMAT": "json",
        "AMQPJOBS_LOG_LEVEL": "info",
    }
