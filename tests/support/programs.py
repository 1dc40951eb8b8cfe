"""The command line, run as a user runs it: a process of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.brokers.broker_server import poll
from tests.support.transport import reach_by_environment
from tests.support.waiting import PATIENCE

ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "amqpjobs")
APP = "tests.support.jobs:app"

KEPT = {k: v for k, v in os.environ.items() if not k.startswith(("AMQPJOBS_", "AMQP_", "RABBITMQ"))}


def environment(url: str, folder: Path, **variables: str) -> dict[str, str]:
    """What a program of these tests is told."""
    return KEPT | {
        **reach_by_environment(url),
        "AMQPJOBS_APP": APP,
        "AMQPJOBS_SHUTDOWN_TIMEOUT": "3",
        "AMQPJOBS_RECONNECT_LIMIT": "1",
        "AMQPJOBS_LOG_LEVEL": "info",
        "JOBS_LEDGER": str(folder / "ledger"),
        "PYTHONPATH": str(ROOT),
        **variables,
    }


def command(
    *arguments: str,
    env: dict[str, str],
    stdin: str = "",
    program: Sequence[str] = PROGRAM,
    cwd: Path = ROOT,
    timeout: float = 60.0,
) -> "Ran":
    """Run a command to its end."""
    run = subprocess.run(
        [*program, *arguments],
        env=env,
        cwd=cwd,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Ran(run.args, run.returncode, run.stdout, run.stderr)


class Ran(subprocess.CompletedProcess[str]):
    """A command that has ended."""

    def __str__(self) -> str:
        """For an assertion: whole, where pytest shortens the value itself."""
        return f"exit status {self.returncode}\n{self.stdout}\n{self.stderr}"


class Program:
    """A running command, whose output is looked at while it runs."""

    def __init__(
        self,
        arguments: Sequence[str],
        env: dict[str, str],
        cwd: Path = ROOT,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self.folder = Path(env["JOBS_LEDGER"]).parent
        name = f"program-{len(list(self.folder.glob('program-*')))}"
        self._out = self.folder / f"{name}.out"
        self._err = self.folder / f"{name}.err"
        with self._out.open("w") as out, self._err.open("w") as err:
            self._process = subprocess.Popen(
                [*program, *arguments], env=env, cwd=cwd, stdout=out, stderr=err,
                stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def errors(self) -> str:
        """What it wrote to stderr."""
        return self._err.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Its log, which is JSON lines. The last one may be half written."""
        whole = self._out.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line]

    def logged(self, event: str, **keys: Any) -> list[dict[str, Any]]:
        """The log lines of that event with these keys."""
        return [
            line
            for line in self.lines
            if line["event"] == event and all(line.get(k) == v for k, v in keys.items())
        ]

    def wait_for(self, event: str, times: int = 1, timeout: float = PATIENCE, **keys: Any) -> None:
        """Wait until it has logged that."""
        arrived = poll(
            lambda: len(self.logged(event, **keys)) >= times or self.ended, timeout, 0.02
        )
        assert arrived, f"{event!r} was not logged:\n{self}"
        assert len(self.logged(event, **keys)) >= times, f"ended before {event!r}:\n{self}"

    def signal(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; the exit status."""
        return self._process.wait(timeout)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    def __str__(self) -> str:
        return f"{self._out.read_text()}\n{self.errors}"


@contextmanager
def running(
    *arguments: str,
    env: dict[str, str],
    cwd: Path = ROOT,
    program: Sequence[str] = PROGRAM,
) -> Iterator[Program]:
    """A command that runs inside of the block."""
    run = Program(arguments, env, cwd, program)
    try:
        yield run
    finally:
        if not run.ended:
            run.signal()
            if not poll(lambda: run.ended, 10.0):
                run.kill()


@contextmanager
def consuming(*arguments: str, env: dict[str, str], cwd: Path = ROOT) -> Iterator[Program]:
    """``amqpjobs consume`` that is ready."""
    with running("consume", *arguments, env=env, cwd=cwd) as program:
        program.wait_for("worker is ready")
        yield program


class Ledger:
    """What the jobs of `tests.support.jobs` wrote."""

    def __init__(self, env: dict[str, str]) -> None:
        self.path = Path(env["JOBS_LEDGER"])

    @property
    def lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        whole = self.path.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def of(self, event: str) -> list[int]:
        """The numbers of the jobs that noted it, in order."""
        return [line["n"] for line in self.lines if line["event"] == event]

    def wait_for(self, event: str, numbers: Sequence[int]) -> None:
        """Wait until the jobs of these numbers have noted it."""
        assert poll(lambda: set(numbers) <= set(self.of(event)), PATIENCE, 0.02), (
            f"not all {event}: {sorted(set(numbers) - set(self.of(event)))} of {list(numbers)}"
        )

    def go(self) -> None:
        """Let the `hold` jobs end."""
        Path(f"{self.path}.go").touch()
