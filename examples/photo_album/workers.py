"""Two workers as anybody starts them, by the command line, and what they say from outside."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from amqpjobs.demo.album import thumbnails

ROOT = Path(__file__).parents[2]
APP = "amqpjobs.demo.album:app"
CONSUME = ("consume", thumbnails.name, "--app", APP, "--concurrency", "2")
DEAD_LETTERS = (
    "dead", "list", thumbnails.name, "--each", "--app", APP, "--limit", "10000", "--json",
)  # fmt: skip

STOP_TIMEOUT = 15.0
"""Seconds from SIGTERM to a worker's end; it promises 8."""


class ShowFailed(Exception):
    """The show could not go on.

    Attributes:
        status: the exit status of the program that ended.
    """

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status


class WorkerProcess:
    """``amqpjobs consume thumbnails`` in a process of its own; its log goes into a file."""

    def __init__(self, number: int, log: Path) -> None:
        self.number = number
        self.log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "amqpjobs", *CONSUME],
                cwd=ROOT,
                env=os.environ | {"AMQPJOBS_LOG_FORMAT": "json", "AMQPJOBS_LOG_LEVEL": "info"},
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def events(self) -> Iterator[Mapping[str, Any]]:
        """Its log so far: a JSON object a line."""
        for line in self.log.read_text().splitlines():
            if line.startswith("{") and line.endswith("}"):  # else it is still being written
                yield json.loads(line)

    def endings(self) -> Iterator[Mapping[str, Any]]:
        """Its line on each job that is over: the outcome, and how long it took."""
        return (event for event in self.events() if "outcome" in event)

    @property
    def is_ready(self) -> bool:
        """Whether it consumes."""
        return any(event["event"] == "worker is ready" for event in self.events())

    def check(self) -> None:
        """Raise `ShowFailed` if it has ended."""
        status = self._process.poll()
        if status is not None:
            last = (self.log.read_text().splitlines() or ["it wrote nothing"])[-1]
            raise ShowFailed(f"worker {self.number} has ended: {last}", status or 1)

    def stop(self) -> int:
        """Stop it by SIGTERM, as deployments do; its exit status."""
        self._process.terminate()
        try:
            return self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def wait_until(
    condition: Callable[[], bool], workers: Sequence[WorkerProcess], what: str, timeout: float
) -> None:
    """Wait for a condition; raise `ShowFailed` if it is not so within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        for worker in workers:
            worker.check()
        if time.monotonic() > deadline:
            raise ShowFailed(f"not within {timeout:g} s: {what}")
        time.sleep(0.05)


def dead_letters() -> dict[str, str]:
    """Why each job in ``thumbnails.dead`` is there, by its id."""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "amqpjobs", *DEAD_LETTERS],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ShowFailed("`amqpjobs dead list` failed", done.returncode)
    return {letter["id"]: letter["message"] for letter in json.loads(done.stdout)}
