"""A command that was told to stop ends within its budget, whatever stands still in it.

Each program here is told to stop as `consume`, `web`, `record` and `run` are. Real processes, real
signals, both event loops.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from amqpjobs.cli.ending import EXTRA
from tests.support.programs import KEPT, ROOT

BUDGET = 0.3
ENVIRONMENT = {k: v for k, v in KEPT.items() if k != "PYTHONUNBUFFERED"}

SLACK = 1.5
"""Seconds for Python to end, on a busy machine with two cores."""

PROGRAM = """
import asyncio, os, re, signal, sys, threading, time
from amqpjobs.cli.ending import flush_output, leave, stop_by_signals

async def main():
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    deadline = stop_by_signals(stopped.set, {budget}, leaving={leaving})
    os.write(2, b"ready\\n")
{body}

loop = {loop}
with asyncio.Runner(loop_factory=loop) as runner:
    runner.run(main())
"""

LOOPS = ("None", "__import__('uvloop').Loop")


class Told:
    """A program that is ready, and told to stop when the test says so."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    def took(self, number: int = signal.SIGTERM) -> float:
        """Seconds from the signal to its end."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.process.wait(BUDGET + EXTRA + 20)
        return time.monotonic() - began

    @property
    def status(self) -> int | None:
        return self.process.returncode

    @property
    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode()


@contextmanager
def program(
    body: str,
    loop: str = LOOPS[0],
    stdout: "int | IO[bytes]" = subprocess.DEVNULL,
    *,
    leaving: bool = True,
) -> Iterator[Told]:
    """A program whose main task has this body."""
    lines = textwrap.indent(textwrap.dedent(body), "    ")
    code = PROGRAM.format(budget=BUDGET, body=lines, loop=loop, leaving=leaving)
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=ENVIRONMENT,
        stdout=stdout,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == b"ready\n"
            yield Told(process)
        finally:
            process.kill()


BLOCKED = {
    "a sleep": "time.sleep(60)",
    "a call that lets other threads run": "os.read(os.pipe()[0], 1)",
    "a regular expression, which does not": "re.match('(a+)+b', 'a' * 60)",
    "a sleep, and a signal handler of the user's": (
        "loop.add_signal_handler(signal.SIGHUP, print); time.sleep(60)"
    ),
}


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("body", BLOCKED.values(), ids=BLOCKED.keys())
def test_a_blocked_event_loop_does_not_hold_the_end(body: str, loop: str) -> None:
    """It ends by force, with 1: nothing was given back in an orderly way."""
    with program(body, loop) as told:
        assert BUDGET < told.took() < BUDGET + 1.5 * EXTRA + SLACK
        assert told.status == 1


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_log_that_nobody_reads_does_not_hold_the_end(loop: str) -> None:
    """The main thread stands in a write to a full pipe, which is stderr's, too."""
    reader, writer = os.pipe()
    try:
        with program("os.dup2(1, 2)\nwhile True: os.write(1, bytes(65536))", loop, writer) as told:
            assert told.took() < BUDGET + EXTRA + SLACK
            assert told.status == 1
    finally:
        os.close(reader)
        os.close(writer)


def test_an_end_by_force_says_so() -> None:
    """One line on stderr, where it can be written."""
    with program("time.sleep(60)") as told:
        told.took()
        assert told.errors == (
            f"amqpjobs: did not end within {BUDGET:g} s of the signal, ending now\n"
        )


@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_thread_that_does_not_end_does_not_hold_the_end(loop: str) -> None:
    """All was done, and the interpreter waits for the thread at its exit: status 0."""
    body = """
    threading.Thread(target=threading.Event().wait).start()
    await stopped.wait()
    deadline.done()
    """
    with program(body, loop) as told:
        assert told.took() < BUDGET + EXTRA + SLACK
        assert (told.status, told.errors) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("loop", LOOPS, ids=["asyncio", "uvloop"])
def test_each_signal_is_passed_on_to_the_event_loop_once(loop: str, number: int) -> None:
    """And what it does at once is done at once."""
    body = """
    seen = []
    stop_by_signals(lambda: seen.append(1), 30)
    os.kill(os.getpid(), signal.SIGTERM)
    while not seen: await asyncio.sleep(0.01)
    loop.call_later(0.1, stopped.set)
    await stopped.wait()
    assert seen == [1]
    stop_by_signals(leave, 30)
    os.write(2, b"again\\n")
    await asyncio.sleep(60)
    """
    with program(body, loop) as told:
        assert told.process.stderr is not None
        assert told.process.stderr.readline() == b"again\n"
        assert told.took(number) < BUDGET
        assert told.status == 0


@pytest.mark.parametrize("output", ["full", "closed"])
def test_output_that_cannot_be_written_does_not_hold_the_end(output: str) -> None:
    """At the end of the budget the event loop leaves; its last words are dropped, the status is 0,
    not the interpreter's 120."""
    reader, writer = os.pipe()
    os.close(reader)
    body = "print('a last word')\nawait asyncio.sleep(60)"
    with (
        Path("/dev/full").open("wb") as full,
        program(body, stdout=full if output == "full" else writer) as told,
    ):
        assert told.took() < BUDGET + EXTRA
        assert (told.status, told.errors) == (0, "")
    os.close(writer)
